"""A run's state into a resume state and back, and what a state must fit."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gpt.checkpoint.resume import ResumeState, Tensors
from gpt.checkpoint.sharded import PARTS, ShardedFolder
from gpt.config import to_dict
from gpt.optim.optimizer import Optimizer
from gpt.parallel.engine import Engine
from gpt.train.config import TrainConfig, shaping_dials
from gpt.train.guard import Guard
from gpt.train.precision import Precision


def saved_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return what training changes: trainable parameters and persistent buffers, by name."""
    kept = set(model.state_dict())
    tensors = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    return tensors | {name: b for name, b in model.named_buffers() if name in kept}


def most_bytes(model: nn.Module) -> int:
    """Return the most bytes that a state of this model takes: two moments beside each trainable weight."""
    size = sum(t.numel() * t.element_size() for t in saved_tensors(model).values())
    return 3 * size


def run_fingerprint(model: nn.Module, config: TrainConfig) -> str:
    """Identify the dials that a step depends on, and the names, shapes and types of what it changes."""
    shapes = {n: [list(t.shape), str(t.dtype)] for n, t in saved_tensors(model).items()}
    return hashlib.sha256(
        json.dumps([shaping_dials(to_dict(config)), shapes], sort_keys=True).encode()
    ).hexdigest()[:16]


def capture(
    step: int,
    run: str,
    model: nn.Module,
    optimizer: Optimizer,
    guard: Guard,
    precision: Precision,
    history: list[dict[str, float]],
) -> ResumeState:
    """Return the state after `step` steps; its tensors are the live ones, not copies."""
    return ResumeState(
        step=step,
        run=run,
        model=saved_tensors(model),
        optimizer=optimizer.state_tensors(),
        guard=guard.state(),
        scaler=precision.scaler.state_dict(),
        history=history,
    )


def own_reader(engine: Engine, model: nn.Module) -> Callable[[Path], Tensors] | None:
    """Return what reads this rank's part of a state of any number of ranks; None where a rank has it all."""
    if engine.group.world_size == 1:
        return None
    parameters = dict(model.named_parameters())

    def own(folder: ShardedFolder, full_name: str) -> Tensor:
        name = full_name.partition("/")[2].rpartition("|")[2]
        if name not in parameters:
            raise ValueError(f"{folder.folder}: {full_name} is of no parameter of the model")
        place = engine.place(name)
        if folder.entries[full_name].shape != place.shape:  # a step counter
            return folder.read_whole(full_name)
        tensor = torch.empty_like(parameters[name])
        engine.local(tensor).copy_(folder.read(full_name, place.start, place.stop))
        return tensor

    def read(path: Path) -> Tensors:
        folder = ShardedFolder(path)
        return {part: {n: own(folder, f"{part}/{n}") for n in folder.names(part)} for part in PARTS}

    return read


def restore(
    state: ResumeState, run: str, model: nn.Module, optimizer: Optimizer, guard: Guard, precision: Precision
) -> None:
    """Load a state in place. Raises ValueError when it belongs to other dials or another model."""
    if state.run != run:
        raise ValueError(
            f"the checkpoint of step {state.step} was made with other dials or another model "
            f"({state.run}, not {run}); delete its folder to begin anew"
        )
    model.load_state_dict(state.model, strict=False)  # frozen weights are not in it
    optimizer.load_state_tensors(state.optimizer)
    guard.load_state(state.guard)
    precision.scaler.load_state_dict(state.scaler)

"""The optimizer of a run: AdamW alone, or Muon and AdamW side by side, as one object.

AdamW is PyTorch's fused one (Loshchilov and Hutter 2017); Muon is ours.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from gpt.optim.config import OptimConfig
from gpt.optim.muon import Muon
from gpt.optim.param_groups import split_parameters
from gpt.optim.schedule import lr_ratio

Clip = Callable[[list[Tensor], float], Tensor | float]


class Optimizer:
    """Clip, schedule, step; its state is a flat dict of tensors."""

    def __init__(self, model: nn.Module, config: OptimConfig, n_steps: int) -> None:
        self.config = config
        self.n_steps = n_steps
        matrices, decayed, plain = split_parameters(model, muon=config.name == "muon")
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]] or [{"params": []}],
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            fused=True,
        )
        self.parts: dict[str, torch.optim.Optimizer] = {"adamw": adamw}
        self.peaks = {"adamw": config.lr, "muon": config.matrix_lr}
        if matrices:
            self.parts["muon"] = Muon(matrices, config.matrix_lr, weight_decay=config.weight_decay)
        self.parameters = [*matrices, *decayed, *plain]
        self.names = {id(p): name for name, p in model.named_parameters()}

    def clip(self, clip: Clip = nn.utils.clip_grad_norm_) -> float:
        """Clip the global gradient norm, over all ranks by an engine's own `clip`; return it as it was."""
        limit = self.config.max_grad_norm or float("inf")
        return float(clip(self.parameters, limit))

    def step(self, step: int) -> float:
        """Update at `step` of the schedule, clear the gradients, return AdamW's learning rate."""
        ratio = lr_ratio(self.config, step, self.n_steps)
        for name, part in self.parts.items():
            for group in part.param_groups:
                group["lr"] = self.peaks[name] * ratio
            part.step()
        self.clear()
        return self.peaks["adamw"] * ratio

    def clear(self) -> None:
        """Drop all gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the state as `<optimizer>.<state>.<parameter>` tensors."""
        return {
            f"{part}.{key}|{self.names[id(parameter)]}": value
            for part, optimizer in self.parts.items()
            for parameter, state in optimizer.state.items()
            for key, value in state.items()
        }

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Restore what state_tensors returned."""
        by_name = {self.names[id(p)]: p for p in self.parameters}
        for full_name, value in tensors.items():
            head, name = full_name.split("|", 1)
            part, key = head.split(".", 1)
            target = by_name[name]
            placed = value if key == "step" else value.to(target.device)
            self.parts[part].state[target][key] = placed.clone()

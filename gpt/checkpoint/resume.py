"""Resumable training state: atomic, hashed, rotated, outside DVC's outs.

`<resume_dir>/step-N/` holds model.safetensors, optimizer.safetensors, state.json and the manifest; of
several ranks one file of each and an index (sharded_save.py). Either is read by any number of ranks. The
newest whole one wins; a damaged one is named and skipped. Rules: reliability note, section 1.
"""

import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint import faults
from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.durable_file import write_durably
from gpt.checkpoint.manifest import check_manifest, recover
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors
from gpt.checkpoint.sharded import INDEX, ShardedFolder
from gpt.parallel.process_group import ProcessGroup

KEEP = 2
MARGIN_BYTES = 2**20
"""For state.json, the manifest and the file system's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeState:
    """Everything that the next step depends on.

    The data cursor is `step` times the samples of a step; dropout's randomness is a function of
    (seed, step); the schedule is a function of `step`. So none of them is stored.
    """

    step: int
    """Optimizer steps done, skipped ones included."""
    run: str
    """Fingerprint of the dials and the names that this state belongs to."""
    model: dict[str, Tensor]
    """Trainable parameters and persistent buffers."""
    optimizer: dict[str, Tensor]
    guard: dict[str, float]
    """Running statistics of the loss, and bad steps in a row."""
    scaler: dict[str, float]
    """fp16's loss scale and its counter; empty with fp32 and bf16."""
    history: list[dict[str, float]]
    """Logged rows up to `step`."""


TENSORS = ("model", "optimizer")
Tensors = dict[str, dict[str, Tensor]]
"""Part -> name -> tensor."""


def state_bytes(state: ResumeState) -> int:
    """Return the bytes of a state's tensors."""
    return sum(t.numel() * t.element_size() for part in TENSORS for t in getattr(state, part).values())


def save_resume_state(resume_dir: Path, state: ResumeState) -> None:
    """Write `step-N` atomically, then remove all but it and the newest KEEP - 1 before it.

    A state of a later step is a damaged one that was skipped: it goes too. Raises OSError with the
    path, the needed and the free bytes; the older states are then as they were.
    """
    needed = state_bytes(state)
    target = resume_dir / f"step-{state.step}"
    try:
        resume_dir.mkdir(parents=True, exist_ok=True)
        check_free(target, needed)
        _write(target, state)
    except OSError as error:
        raise OSError(
            error.errno or errno.EIO,
            f"the checkpoint of step {state.step} failed ({error.strerror or error}): it needs "
            f"{needed:,} bytes, {_free_bytes(resume_dir):,} are free",
            str(error.filename or target),
        ) from error
    rotate(resume_dir, state.step)


def check_free(target: Path, needed: int) -> None:
    """Raise OSError when the disk of a folder yet to be made cannot hold so many bytes."""
    if _free_bytes(target) < needed + MARGIN_BYTES:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))


def rotate(resume_dir: Path, step: int) -> None:
    """Remove all states but that of a step and the newest KEEP - 1 before it."""
    older = [folder for folder in _steps(resume_dir) if _step(folder) < step]
    for folder in set(_steps(resume_dir)) - {resume_dir / f"step-{step}", *older[: KEEP - 1]}:
        shutil.rmtree(folder)
        faults.hit("checkpoint.after_prune", folder)


def _write(target: Path, state: ResumeState) -> None:
    hashes: dict[str, str] = {}
    with atomic_folder(target, hashes) as folder:
        for part in TENSORS:
            name = f"{part}.safetensors"
            hashes[name] = write_safetensors(folder / name, getattr(state, part))
        hashes["state.json"] = write_durably(folder / "state.json", [rest_of(state)])


def rest_of(state: ResumeState) -> bytes:
    """Return state.json's bytes: everything but the tensors."""
    rest = {f.name: getattr(state, f.name) for f in fields(state) if f.name not in TENSORS}
    return (json.dumps(rest) + "\n").encode()


def check_room(resume_dir: Path, state_size: int) -> None:
    """Refuse a run whose rotation the disk cannot hold: KEEP states and the one being written.

    `state_size` is in bytes. Raises OSError with the path, the needed and the free bytes.
    """
    held = sum(f.stat().st_size for folder in _steps(resume_dir) for f in folder.iterdir())
    needed = (KEEP + 1) * (state_size + MARGIN_BYTES) - held
    free = _free_bytes(resume_dir)
    if free < needed:
        raise OSError(
            errno.ENOSPC,
            f"the checkpoints need {needed:,} bytes ({KEEP + 1} of {state_size:,}), {free:,} are free; "
            "free some space, or write checkpoint_every: 0",
            str(resume_dir),
        )


def load_resume_state(
    resume_dir: Path, read: Callable[[Path], Tensors] | None = None, group: ProcessGroup | None = None
) -> ResumeState | None:
    """Return the newest whole state, or None where there is none; remove what a killed save left.

    `read` takes the tensors out of a verified folder, whole ones if None. Ranks of a group all call
    this: each verifies its share of a folder's files, and all take the same one. Says on stderr which
    damaged ones it skipped. Raises ValueError when there are states and all are damaged: a run never begins
    anew without being told to.
    """
    group = group or ProcessGroup(0, 1, 0, torch.device("cpu"))
    if group.rank == 0:
        _sweep(resume_dir)
    group.first_word("")  # the others look when rank 0 has swept
    damage: list[str] = []
    for folder in _steps(resume_dir):
        state, wrong = None, ""
        try:
            check_manifest(folder, share=(group.rank, group.world_size))
        except (ValueError, OSError) as error:
            wrong = str(error)
        if not (wrong := group.first_word(wrong)):
            try:
                state = _read(folder, read or read_whole)
            except (ValueError, TypeError, OSError) as error:
                wrong = str(error)
            wrong = group.first_word(wrong)
        if state is None or wrong:
            damage.append(wrong)
            continue
        for text in damage if group.rank == 0 else ():
            print(f"skipped a damaged checkpoint: {text}; going on from step {state.step}", file=sys.stderr)
        return state
    if damage:
        raise ValueError(
            f"{resume_dir}: all {len(damage)} checkpoints are damaged ({damage[0]}); "
            "delete the folder to begin anew at step 0"
        )
    return None


def _read(folder: Path, read: Callable[[Path], Tensors]) -> ResumeState:
    rest: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    tensors: dict[str, Any] = read(folder)
    return ResumeState(**tensors, **rest)


def read_whole(folder: Path) -> Tensors:
    """Return a state's tensors by part and name, each whole."""
    if not (folder / INDEX).exists():
        return {part: read_safetensors(folder / f"{part}.safetensors") for part in TENSORS}
    sharded = ShardedFolder(folder)
    return {part: {n: sharded.read_whole(f"{part}/{n}") for n in sharded.names(part)} for part in TENSORS}


def _sweep(resume_dir: Path) -> None:
    """Remove the temporary folders of killed saves; undo their interrupted replacements."""
    for old in resume_dir.glob(".step-*.old"):
        recover(resume_dir / old.name.removeprefix(".").removesuffix(".old"))
    for temporary in resume_dir.glob(".step-*.tmp"):
        shutil.rmtree(temporary)


def _steps(resume_dir: Path) -> list[Path]:
    """Return the finished step folders, newest first."""
    folders = [f for f in resume_dir.glob("step-*") if f.name.removeprefix("step-").isdigit()]
    return sorted(folders, key=_step, reverse=True)


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _free_bytes(path: Path) -> int:
    """Return the free bytes of the disk that holds `path`, which need not exist yet."""
    existing = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    return shutil.disk_usage(existing).free

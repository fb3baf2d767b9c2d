"""Resumable training state: atomic, hashed, rotated, outside DVC's outs.

`<resume_dir>/step-N/` holds model.safetensors, optimizer.safetensors, state.json and the manifest. The
newest whole one wins; a damaged one is named and skipped. Rules: reliability note, section 1.
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.safetensors import read_safetensors, write_safetensors

KEEP = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeState:
    """Everything that the next step depends on. Dropout's randomness is a function of (seed, step)."""

    step: int
    """Optimizer steps done."""
    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    history: list[dict[str, float]]
    """Logged rows up to `step`."""
    elapsed_s: float
    """Training seconds spent so far, over all attempts."""


def save_resume_state(resume_dir: Path, state: ResumeState) -> None:
    """Write `step-N` atomically, then remove all but the newest KEEP.

    Raises OSError (the folder is left as it was) when the disk holds less than one more state.
    """
    resume_dir.mkdir(parents=True, exist_ok=True)
    tensors = [*state.model.values(), *state.optimizer.values()]
    needed = sum(t.numel() * t.element_size() for t in tensors)
    free = shutil.disk_usage(resume_dir).free
    if free < needed + 2**20:
        raise OSError(28, f"a checkpoint needs {needed:,} bytes, {free:,} are free", str(resume_dir))
    with atomic_folder(resume_dir / f"step-{state.step}") as folder:
        write_safetensors(folder / "model.safetensors", state.model)
        write_safetensors(folder / "optimizer.safetensors", state.optimizer)
        rest: dict[str, Any] = {
            "step": state.step,
            "history": state.history,
            "elapsed_s": state.elapsed_s,
        }
        (folder / "state.json").write_text(json.dumps(rest) + "\n", encoding="utf-8")
    for old in _steps(resume_dir)[KEEP:]:
        shutil.rmtree(old)


def load_resume_state(resume_dir: Path) -> ResumeState | None:
    """Return the newest whole state, or None; says on stderr which damaged ones it skipped."""
    for folder in _steps(resume_dir):
        try:
            check_manifest(folder)
            rest = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            return ResumeState(
                model=read_safetensors(folder / "model.safetensors"),
                optimizer=read_safetensors(folder / "optimizer.safetensors"),
                **rest,
            )
        except ValueError as error:
            print(f"skipping a damaged checkpoint: {error}", file=sys.stderr)
    return None


def _steps(resume_dir: Path) -> list[Path]:
    """Return the finished step folders, newest first."""
    folders = [f for f in resume_dir.glob("step-*") if f.name.removeprefix("step-").isdigit()]
    return sorted(folders, key=lambda f: int(f.name.removeprefix("step-")), reverse=True)

"""Saves beside the training: copy to host memory, then write, hash and rename in a thread.

Training waits for the copy alone. One save is in flight; the next one waits for it. A state counts as
saved after its rename, never before. Price: a kill during a save costs the steps since the save before.
"""

import threading
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gpt.checkpoint.resume import ResumeState, save_resume_state


class BackgroundSaver:
    """Saves resume states into a folder, one at a time."""

    def __init__(self, resume_dir: Path) -> None:
        self.resume_dir = resume_dir
        self._buffers: dict[str, Tensor] = {}
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, state: ResumeState) -> None:
        """Copy a state and begin to write it. Raises what the save before raised."""
        self.wait()
        model = self._copy("model", state.model)
        optimizer = self._copy("optimizer", state.optimizer)
        if any(tensor.is_cuda for tensor in state.model.values()):
            torch.cuda.synchronize()  # the copies are asynchronous
        copy = replace(state, model=model, optimizer=optimizer, history=list(state.history))
        self._thread = threading.Thread(target=self._save, args=(copy,), name="checkpoint")
        self._thread.start()

    def poll(self) -> None:
        """Raise what the save in flight raised, if it has ended; never wait."""
        if not self.is_busy():
            self.wait()

    def is_busy(self) -> bool:
        """Return whether a save is being written."""
        return self._thread is not None and self._thread.is_alive()

    def wait(self) -> None:
        """Wait for the save in flight; raise what it raised."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _save(self, state: ResumeState) -> None:
        try:
            save_resume_state(self.resume_dir, state)
        except BaseException as error:
            self._error = error  # raised in the training thread, by poll, start or wait

    def _copy(self, part: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        """Copy into buffers that live as long as the run: fresh memory costs more than the copy."""
        copies = {}
        for name, tensor in tensors.items():
            key = f"{part}|{name}"
            if key not in self._buffers:
                self._buffers[key] = torch.empty(
                    tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda
                )
            copies[name] = self._buffers[key].copy_(tensor.detach(), non_blocking=tensor.is_cuda)
        return copies

"""gpt/checkpoint/background.py: a save beside the training holds the state of its step."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gpt.checkpoint import faults
from gpt.checkpoint.background import BackgroundSaver
from gpt.checkpoint.resume import load_resume_state
from tests.checkpoint.test_resume import state


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    faults.arm(None)


def test_what_changes_during_a_save_is_not_in_it(tmp_path: Path) -> None:
    """Guards: weights of a later step in a checkpoint of an earlier one. The weights and the history are
    changed as soon as start() returns, for three saves through the same buffers."""
    saver = BackgroundSaver(tmp_path)
    for step in (1, 2, 3):
        saved = state(step)
        saved.model["w"] = torch.full((300_000,), float(step))
        saver.start(saved)
        saved.model["w"].fill_(-1.0)
        saved.history.append({"step": -1})
        if step == 2:
            saver.wait()
            before = load_resume_state(tmp_path)
            assert before is not None
            assert torch.equal(before.model["w"], torch.full((300_000,), 2.0))
    saver.wait()
    loaded = load_resume_state(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded.model["w"], torch.full((300_000,), 3.0))
    assert loaded.history == [{"step": 3, "loss": 1.5}]


def test_the_training_thread_gets_the_error(tmp_path: Path) -> None:
    """Guards: a failed save that dies with its thread, unseen; one that is raised twice."""
    saver = BackgroundSaver(tmp_path)
    faults.arm("checkpoint.after_fsync:eio@1")
    saver.start(state(1))
    with pytest.raises(OSError, match="the checkpoint of step 1 failed"):
        saver.start(state(2))
    saver.start(state(3))
    saver.wait()
    saver.poll()
    loaded = load_resume_state(tmp_path)
    assert loaded is not None
    assert loaded.step == 3

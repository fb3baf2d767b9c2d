"""gpt/checkpoint/resume.py: what a full disk, a damaged byte and an interrupted save leave behind."""

import errno
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from gpt.checkpoint import faults
from gpt.checkpoint.atomic import atomic_folder
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.resume import (
    KEEP,
    ResumeState,
    check_room,
    load_resume_state,
    save_resume_state,
    state_bytes,
)


@pytest.fixture(autouse=True)
def _disarm() -> Iterator[None]:
    yield
    faults.arm(None)


def state(step: int) -> ResumeState:
    return ResumeState(
        step=step,
        run="0" * 16,
        model={"w": torch.full((3,), float(step))},
        optimizer={"adamw.step|w": torch.tensor(float(step))},
        guard={"n_losses": 4, "mean": 0.1, "variance": 0.2, "bad_steps": 1},
        scaler={"scale": 1024.0, "_growth_tracker": 3},
        history=[{"step": step, "loss": 1.5}],
    )


def loaded_step(folder: Path) -> int | None:
    loaded = load_resume_state(folder)
    return None if loaded is None else loaded.step


def test_a_state_comes_back_whole(tmp_path: Path) -> None:
    """Guards: a field that is written and not read."""
    save_resume_state(tmp_path, state(7))
    loaded = load_resume_state(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded.model["w"], torch.full((3,), 7.0))
    assert torch.equal(loaded.optimizer["adamw.step|w"], torch.tensor(7.0))
    for name in ("step", "run", "guard", "scaler", "history"):
        assert getattr(loaded, name) == getattr(state(7), name)


def test_the_newest_whole_state_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: a damaged newest state ending the run instead of costing one interval; a rotation that
    then keeps the damaged one and drops the good one."""
    assert load_resume_state(tmp_path) is None
    for step in (90, 100, 110):
        save_resume_state(tmp_path, state(step))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-100", "step-110"]
    assert KEEP == 2
    file = tmp_path / "step-110" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    assert loaded_step(tmp_path) == 100
    error = capsys.readouterr().err
    assert "step-110/model.safetensors: damaged" in error
    assert "going on from step 100" in error
    save_resume_state(tmp_path, state(105))
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-100", "step-105"]


def test_all_damaged_is_an_error_and_no_new_beginning(tmp_path: Path) -> None:
    """Guards: two weeks of training begun anew at step 0 without a word."""
    for step in (1, 2):
        save_resume_state(tmp_path, state(step))
        (tmp_path / f"step-{step}" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match=r"all 2 checkpoints are damaged.*delete the folder to begin anew"):
        load_resume_state(tmp_path)


def test_no_flipped_byte_and_no_cut_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards: bit rot that trains on. 200 flips and 50 cuts over all files of a state: each is refused
    by the file's name and the older state is used."""
    for step in (1, 2):
        save_resume_state(tmp_path, state(step))
    files = sorted((tmp_path / "step-2").iterdir())
    assert len(files) == 4
    rng = random.Random(0)

    def refused(file: Path, damaged: bytes) -> bool:
        original = file.read_bytes()
        file.write_bytes(damaged)
        step = loaded_step(tmp_path)
        file.write_bytes(original)
        return step == 1 and str(tmp_path / "step-2") in capsys.readouterr().err

    for i in range(250):
        file = files[i % len(files)]
        data = bytearray(file.read_bytes())
        if i < 200:
            data[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        else:
            del data[rng.randrange(len(data)) :]
        assert refused(file, bytes(data)), (file.name, i)
    assert loaded_step(tmp_path) == 2


@pytest.mark.parametrize("leftover", [".step-7.tmp", "step-7"])
def test_a_leftover_partial_state_is_no_obstacle(tmp_path: Path, leftover: str) -> None:
    """Guards: the half-written folder of a killed process blocking the next save of that step."""
    save_resume_state(tmp_path, state(6))
    (tmp_path / leftover).mkdir()
    (tmp_path / leftover / "model.safetensors").write_text("half")
    assert loaded_step(tmp_path) == 6
    assert not list(tmp_path.glob(".step-*")), "left after a restart"
    save_resume_state(tmp_path, state(7))
    assert loaded_step(tmp_path) == 7
    assert sorted(f.name for f in tmp_path.iterdir()) == ["step-6", "step-7"]


@pytest.mark.parametrize("code", ["enospc", "eio", "erofs"])
@pytest.mark.parametrize("write", [1, 2, 3, 4, 5, 6])
def test_a_failed_write_leaves_the_state_before(tmp_path: Path, code: str, write: int) -> None:
    """Guards: a full or broken disk that takes the last good state along. There are six writes: two a
    tensor file (header, tensor), one for state.json, one for the manifest."""
    save_resume_state(tmp_path, state(1))
    before = check_manifest(tmp_path / "step-1")
    faults.arm(f"checkpoint.write:{code}@{write}")
    message = r"the checkpoint of step 2 failed \(.+\): it needs 16 bytes, [0-9,]+ are free"
    with pytest.raises(OSError, match=message) as caught:
        save_resume_state(tmp_path, state(2))
    assert caught.value.errno == faults.ERRORS[code]
    assert str(tmp_path) in str(caught.value.filename)
    assert [f.name for f in tmp_path.iterdir()] == ["step-1"]
    assert check_manifest(tmp_path / "step-1") == before
    assert loaded_step(tmp_path) == 1
    save_resume_state(tmp_path, state(2))  # the fault has passed
    assert loaded_step(tmp_path) == 2


def test_full_disk_is_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: the last good state pruned, then the new one cut off by a full disk; a run that begins
    although its rotation never fits."""
    save_resume_state(tmp_path, state(1))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(OSError, match=r"needs 16 bytes, 10 are free"):
        save_resume_state(tmp_path, state(2))
    assert loaded_step(tmp_path) == 1
    with pytest.raises(OSError, match=r"need [0-9,]+ bytes \(3 of 16\), 10 are free") as caught:
        check_room(tmp_path, state_bytes(state(2)))
    assert caught.value.errno == errno.ENOSPC


def test_room_counts_what_the_rotation_holds_already(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a resume refused because the states that it will replace fill the disk. Three states of
    s = 40 MB and 1 MiB each are the most; two stand there, so one more must fit."""
    size = 40_000_000
    for step in (1, 2):
        folder = tmp_path / f"step-{step}"
        folder.mkdir()
        with (folder / "model.safetensors").open("wb") as file:
            file.truncate(size)
    usage = shutil.disk_usage(tmp_path)
    needed = size + 3 * 2**20
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed))
    check_room(tmp_path, size)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=needed - 1))
    with pytest.raises(OSError, match=f"need {needed:,} bytes"):
        check_room(tmp_path, size)


class Killed(BaseException):
    """Stands for kill -9 between two renames: the caller runs nothing after it."""


def test_a_replacement_cut_between_its_renames_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards: a kill in the window in which neither the old nor the new folder has the name."""
    target = tmp_path / "checkpoint"

    def write(text: str) -> None:
        with atomic_folder(target) as folder:
            (folder / "x").write_text(text)

    def killed(point: str, path: Path | None = None) -> None:
        if point == "checkpoint.after_aside":
            raise Killed

    write("old")
    before = check_manifest(target)
    with monkeypatch.context() as patch:
        patch.setattr(faults, "hit", killed)
        with pytest.raises(Killed):
            write("new")
    assert not target.exists()
    assert check_manifest(target) == before  # opening it brings the old one back
    write("new")
    assert (target / "x").read_text() == "new"
    assert [f.name for f in tmp_path.iterdir()] == ["checkpoint"]

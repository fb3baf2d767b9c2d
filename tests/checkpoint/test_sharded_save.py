"""gpt/checkpoint/sharded_save.py: what fails on one rank fails on all, and leaves the state before."""

import errno
from pathlib import Path

import torch
from torch import nn

from gpt.checkpoint import faults
from gpt.checkpoint.manifest import check_manifest
from gpt.checkpoint.resume import ResumeState, load_resume_state
from gpt.parallel.engine import Place
from gpt.parallel.process_group import ProcessGroup
from tests.distributed import Ranks


class Halves:
    """An engine for a test: the first rank has the first five of seven rows."""

    def __init__(self, group: ProcessGroup) -> None:
        self.group = group

    def place(self, name: str) -> Place:
        start, stop = ((0, 15), (15, 21), (21, 21))[self.group.rank]
        return Place(shape=torch.Size([7, 3]), start=start, stop=stop)

    def local(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.view(-1)


WHOLE = torch.arange(21.0).view(7, 3)


def state(engine: Halves, step: int) -> ResumeState:
    place = engine.place("w")
    own = WHOLE.view(-1)[place.start : place.stop].view(-1, 3) * step
    # a rank without elements of w holds an old step counter, which must never be the one that is saved
    counter = torch.tensor(float(step if own.numel() else -1))
    return ResumeState(
        step=step,
        run="r",
        model={"w": own},
        optimizer={"adamw.exp_avg|w": own + 1, "adamw.step|w": counter},
        guard={},
        scaler={},
        history=[],
    )


def save(group: ProcessGroup, folder: Path, step: int, fault: str | None) -> tuple[int, str]:
    """Save a state; return the error's number and text, 0 and nothing when all went well."""
    from gpt.checkpoint.sharded_save import ShardedSaver

    engine = Halves(group)
    faults.arm(fault)
    saver = ShardedSaver(folder, engine)  # type: ignore[arg-type]
    live = state(engine, step)
    saver.start(live)
    live.model["w"].zero_()  # the next step has begun
    try:
        saver.wait()
    except OSError as error:
        return error.errno or 0, str(error)
    finally:
        faults.arm(None)
    return 0, ""


def test_three_ranks_save_and_one_fails(tmp_path: Path) -> None:
    """Guards: a save that reads weights of the step after; a full disk of one rank that the others take for
    a success; a half-written folder; a replicated counter from a rank whose own is old."""
    ranks = Ranks(3)
    try:
        assert ranks.run(save, tmp_path, 1, None) == [(0, "")] * 3
        before = check_manifest(tmp_path / "step-1")
        for fault in ("checkpoint.write:enospc@1#1", "checkpoint.after_manifest:eio@1#0"):
            results = ranks.run(save, tmp_path, 2, fault)
            rank = int(fault[-1])
            assert all(number in (errno.ENOSPC, errno.EIO) for number, _ in results), results
            assert all(f"the checkpoint of step 2 failed on rank {rank}" in text for _, text in results)
            assert [f.name for f in tmp_path.iterdir()] == ["step-1"]
            assert check_manifest(tmp_path / "step-1") == before
        assert ranks.run(save, tmp_path, 2, None) == [(0, "")] * 3
    finally:
        ranks.end()
    loaded = load_resume_state(tmp_path)
    assert loaded is not None
    assert loaded.step == 2
    assert torch.equal(loaded.model["w"], 2 * WHOLE)
    assert torch.equal(loaded.optimizer["adamw.exp_avg|w"], 2 * WHOLE + 1)
    assert torch.equal(loaded.optimizer["adamw.step|w"], torch.tensor(2.0))
    assert len(list((tmp_path / "step-2").glob("shard-*"))) == 2, "a file of nothing"


def test_an_engine_of_one_rank_divides_nothing() -> None:
    """Guards: a run of one process that changes by a bit because engines exist."""
    from gpt.parallel.engine import WholeModel, fill, skeleton

    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    engine = WholeModel(ProcessGroup(0, 1, 0, torch.device("cpu")))
    engine.shard(model, torch.bfloat16)
    assert engine.whole(torch.device("cpu")) is model
    assert engine.place("0.weight") == Place(shape=torch.Size([3, 3]), start=0, stop=9)
    assert engine.local(model[0].weight).data_ptr() == model[0].weight.data_ptr()
    bare = skeleton(model)
    assert all(p.is_meta for p in bare.parameters())
    full = fill(bare, {n: p.detach() for n, p in model.named_parameters()}, torch.device("cpu"))
    assert full[1].weight is full[0].weight, "the tie is gone"  # type: ignore[index]
    assert torch.equal(full(torch.ones(1, 3)), model(torch.ones(1, 3)))

"""gpt/train/loop.py on several ranks: the numbers of one process, whatever divides the model."""

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from gpt.checkpoint.resume import load_resume_state
from gpt.parallel.engine import Engine
from gpt.parallel.process_group import ProcessGroup
from gpt.train.ranks import agree, check_dials, mean_metrics
from tests.distributed import Ranks
from tests.tolerances import TOLERANCE
from tests.train.several_ranks import DIALS, ODD, Numbers, build, engine_of, run

ALONE = ProcessGroup(0, 1, 0, torch.device("cpu"))
ENGINES = ["zero3", "fsdp2"]
MIXTURE = dataclasses.replace(ODD, n_experts=3, value_residual=True)


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    ranks = Ranks(2)
    yield ranks
    ranks.end()


@pytest.fixture(scope="module")
def four() -> Iterator[Ranks]:
    ranks = Ranks(4)
    yield ranks
    ranks.end()


@pytest.fixture(scope="module")
def expected() -> Numbers:
    return run(ALONE, "zero3")


def assert_equal(got: Numbers, expected: Numbers) -> None:
    assert got.rows.keys() == expected.rows.keys()
    for key, values in expected.rows.items():
        assert got.rows[key] == pytest.approx(values, abs=TOLERANCE["zero3_loss_vs_one_process"]), key
    assert set(got.weights) == set(expected.weights)
    for name, tensor in expected.weights.items():
        gap = float((got.weights[name] - tensor).abs().max())
        assert gap <= TOLERANCE["zero3_weights_vs_one_process"], name


@pytest.mark.parametrize("engine", ENGINES)
def test_one_two_and_four_ranks_train_the_model_of_one_process(
    two: Ranks, four: Ranks, expected: Numbers, engine: str
) -> None:
    """Guards: a loss, norm or validation that is one rank's own; every rank with the same samples; an engine
    that accumulates or clips otherwise; the whole model at the end from stale or another rank's parts."""
    assert min(expected.rows["grad_norm"]) > DIALS.optim.max_grad_norm, "nothing was clipped"
    for ranks in (two, four):
        results = ranks.run(run, engine)
        assert_equal(results[0], expected)
        assert all(result.rows == results[0].rows for result in results)
        assert all(result.weights == {} for result in results[1:])


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_computed_again_and_a_mixture(two: Ranks, engine: str) -> None:
    """Guards: recompute_blocks that meets freed weights, a router that its own unit does not gather. Without
    a balance loss, which is a function of each rank's own samples."""
    dials = dataclasses.replace(DIALS, steps=4, eval_every=4)
    alone = run(ALONE, engine, dials, MIXTURE)
    again = dataclasses.replace(dials, recompute_blocks=True)
    assert_equal(two.run(run, engine, again, MIXTURE)[0], alone)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_head_in_blocks(two: Ranks, engine: str) -> None:
    """Guards: a head's gradient that the operator keeps while its weights are freed or belong to another
    rank: two ranks with head_loss chunked against one process with it."""
    dials = dataclasses.replace(DIALS, steps=4, eval_every=4, head_loss="chunked")
    assert_equal(two.run(run, engine, dials)[0], run(ALONE, engine, dials))


@pytest.mark.parametrize("engine", ENGINES)
def test_bf16_on_ranks_is_near_bf16_of_one_process(two: Ranks, engine: str) -> None:
    """Guards: weights gathered in fp32 whatever the dial, masters rounded to bf16: both show as a gap."""
    dials = dataclasses.replace(DIALS, dtype="bf16", steps=6)
    alone, got = run(ALONE, engine, dials), two.run(run, engine, dials)[0]
    exact = run(ALONE, engine, dataclasses.replace(DIALS, steps=6))
    gap = max(abs(a - b) for a, b in zip(got.rows["loss"], alone.rows["loss"], strict=True))
    assert 0 < gap <= TOLERANCE["ranks_bf16_loss_vs_one_process"]
    assert got.rows["loss"] != exact.rows["loss"]
    assert any((t != t.bfloat16().float()).any() for t in got.weights.values()), "masters are bf16"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_run_goes_on_with_other_ranks(
    two: Ranks, four: Ranks, expected: Numbers, engine: str, tmp_path: Path
) -> None:
    """Guards: a state that fits only the ranks that wrote it, a moment or a step counter lost on the way.
    One process, two ranks, four, one; each dies in a step of its own, behind a state of its own; a vocabulary
    of 331 and 50 hidden dimensions divide by none of them."""
    step = DIALS.grad_accumulation
    run(ALONE, engine, resume_dir=tmp_path, stop_at=2 * step + 1)
    assert (tmp_path / "step-2/model.safetensors").exists()
    two.run(run, engine, DIALS, ODD, tmp_path, 2 * step + 1)
    assert len(list((tmp_path / "step-4").glob("shard-*.safetensors"))) == 2
    four.run(run, engine, DIALS, ODD, tmp_path, 2 * step + 1)
    assert len(list((tmp_path / "step-6").glob("shard-*.safetensors"))) == 4
    assert sorted(f.name for f in tmp_path.glob("step-*")) == ["step-4", "step-6"], "not rotated"
    shutil.copytree(tmp_path, tmp_path / "kept")
    assert_equal(run(ALONE, engine, resume_dir=tmp_path), expected)
    other = ENGINES[1 - ENGINES.index(engine)]
    assert_equal(two.run(run, other, DIALS, ODD, tmp_path / "kept")[0], expected)


def test_a_damaged_sharded_state_is_named_and_skipped(two: Ranks, expected: Numbers, tmp_path: Path) -> None:
    """Guards: one rank that skips a state and one that loads it; bytes of rank 1's file, which rank 0 does
    not read, that train on."""
    two.run(run, "zero3", DIALS, ODD, tmp_path, 5 * DIALS.grad_accumulation)
    file = tmp_path / "step-4/shard-00001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\1")
    result = two.run(run, "zero3", dataclasses.replace(DIALS, checkpoint_every=0), ODD, tmp_path)[0]
    assert result.first_step == 2
    assert_equal(result, expected)
    (tmp_path / "step-2/index.json").write_text("{}")
    with pytest.raises(ValueError, match="all 2 checkpoints are damaged"):
        load_resume_state(tmp_path)


def test_the_same_state_is_the_same_bytes(two: Ranks, tmp_path: Path) -> None:
    """Guards: a checkpoint that depends on the clock or on which rank was faster."""
    folders = [tmp_path / name for name in "ab"]
    for folder in folders:
        two.run(run, "fsdp2", dataclasses.replace(DIALS, steps=2, eval_every=2), ODD, folder)
    files = sorted(f.name for f in (folders[0] / "step-2").iterdir())
    assert "index.json" in files
    for name in files:
        assert (folders[0] / "step-2" / name).read_bytes() == (folders[1] / "step-2" / name).read_bytes(), (
            name
        )


def decide(group: ProcessGroup) -> tuple[dict[str, float], tuple[int, bool], str]:
    means = mean_metrics(group, {"loss": torch.tensor(float(group.rank)), "z_loss": 2.0})
    signal = 15 if group.rank == 1 else 0
    return means, agree(group, signal, group.rank == 1), group.first_word("yes" if group.rank == 1 else "")


def test_ranks_decide_alike(two: Ranks) -> None:
    """Guards: a rank that stops, saves or steps alone while the others wait for it. A signal counts wherever
    it came; a budget is rank 0's."""
    assert two.run(decide) == [({"loss": 0.5, "z_loss": 2.0}, (15, False), "yes")] * 2
    assert agree(ALONE, 2, True) == (2, True)


@pytest.mark.parametrize(
    ("dials", "message"),
    [
        ({"compile": True}, "compile: 2 ranks train uncompiled; write false"),
        ({"dtype": "fp16"}, "dtype: .*write bf16 or fp32"),
        ({"optim": dataclasses.replace(DIALS.optim, name="muon")}, "optim.name: muon .*write adamw"),
        ({"micro_batch_size": 5}, "micro_batch_size: 5 samples .*2 ranks; write 6"),
    ],
)
def test_what_ranks_cannot_do_is_refused(dials: dict[str, object], message: str) -> None:
    """Guards: a run that is quietly another one on several ranks."""
    config = dataclasses.replace(DIALS, **dials)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=message):
        check_dials(config, 2)
    check_dials(config, 1)


def freeze(group: ProcessGroup, name: str) -> str:
    engine: Engine = engine_of(group, name)
    model = build(ODD)
    model.blocks[0].attention.q_proj.weight.requires_grad_(False)
    with pytest.raises(ValueError, match="is frozen") as error:
        engine.shard(model, torch.float32)
    with pytest.raises(ValueError, match="no blocks to divide"):
        engine_of(group, name).shard(nn.Linear(2, 2), torch.float32)
    return str(error.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_frozen_parameters_are_refused(two: Ranks, engine: str) -> None:
    """Guards: LoRA's base divided and trained, or silently left whole on every rank."""
    said = two.run(freeze, engine)
    assert all(text.startswith("blocks.0.attention.q_proj.weight: is frozen") for text in said)

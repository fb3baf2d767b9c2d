"""gpt/parallel/expert_spread.py: a mixture whose experts lie on several ranks trains as in one process."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gpt.checkpoint.safetensors import read_safetensors, write_safetensors
from gpt.checkpoint.save_load import load_tensors, model_tensors
from gpt.growth.upcycle import upcycle
from gpt.model.transformer import Transformer
from gpt.parallel.expert_replicas import Replicas
from gpt.parallel.expert_spread import LocalExperts, balance_over_ranks, spread_experts
from gpt.parallel.process_group import ProcessGroup
from tests.distributed import Ranks
from tests.parallel.expert_training import (
    UNEVEN,
    Engine,
    ExpertRun,
    build_uneven,
    loss_of,
    reference,
    replicate,
    shard_all,
    spread_and_replicate,
    spread_and_shard,
    train,
)
from tests.parallel.training import MIXTURE, ODD, VOCAB, build, gap, micro_batches
from tests.tolerances import TOLERANCE

BF16 = replace(UNEVEN, compute_dtype=torch.bfloat16)


@pytest.fixture(scope="module")
def expected() -> ExpertRun:
    return reference(UNEVEN)


def assert_equal_runs(runs: list[ExpertRun], expected: ExpertRun) -> None:
    loss_gap, weight_gap = gap(runs[0], expected)
    assert loss_gap <= TOLERANCE["experts_loss_vs_one_process"]
    assert weight_gap <= TOLERANCE["experts_weights_vs_one_process"]
    for run in runs:
        assert (run.losses, run.norms) == (runs[0].losses, runs[0].norms)
        assert torch.equal(run.loads, expected.loads)


def test_the_case_is_as_uneven_as_it_says(expected: ExpertRun) -> None:
    """Guards: tests below that see no expert without a token, no rank without one, no step clipped."""
    loads = expected.loads  # (passes, L, E)
    assert min(expected.norms) > UNEVEN.max_norm, "nothing was clipped"
    assert (loads[:, 0, 2:] == 0).all(), "of two ranks the second receives none in the first block"
    assert (loads[:, 1, 3] == 0).all(), "an expert without a token beside one with"
    assert (loads[:, 1, 2] > 0).all()
    assert len({tuple(row) for row in loads[:, 2].tolist()}) > len(loads) // 2, "routing changes"


@pytest.mark.parametrize("engine", [spread_and_replicate, spread_and_shard])
def test_one_two_and_four_ranks_train_the_model_of_one_process(
    one: ProcessGroup, two: Ranks, four: Ranks, expected: ExpertRun, engine: Engine
) -> None:
    """Guards: tokens at another's expert, an expert's gradient summed for a mean, a norm that counts the
    experts of one rank or the rest W times, losses that balance a rank's tokens instead of all, over eight
    steps of AdamW in which every one is clipped."""
    for runs in (
        [train(one, UNEVEN, engine)],
        two.run(train, UNEVEN, engine),
        four.run(train, UNEVEN, engine),
    ):
        assert_equal_runs(runs, expected)
        in_forward = 4 * sum(run.n_left for run in runs) * UNEVEN.model.dim * 4
        assert sum(run.bytes_moved["all_to_all"] for run in runs) == in_forward, "there and back, two ways"


@pytest.mark.parametrize("engine", [replicate, shard_all])
def test_experts_on_every_rank_can_balance_over_all(two: Ranks, expected: ExpertRun, engine: Engine) -> None:
    """Guards: another loss for another place of the experts."""
    assert_equal_runs(two.run(train, UNEVEN, engine), expected)


@pytest.mark.parametrize("engine", [spread_and_replicate, spread_and_shard])
def test_blocks_computed_again_send_again(two: Ranks, expected: ExpertRun, engine: Engine) -> None:
    """Guards: a recomputed block whose collectives the ranks enter in different order. By hand: of six
    directions, there and back are gone once more."""
    runs = two.run(train, replace(UNEVEN, recompute=True), engine)
    assert_equal_runs(runs, expected)
    n_left = sum(run.n_left for run in runs) // 2  # the routers ran twice, and counted twice
    moved = sum(run.bytes_moved["all_to_all"] for run in runs)
    assert moved == 6 * n_left * UNEVEN.model.dim * 4


def test_bf16_meets_fp32_masters(two: Ranks, expected: ExpertRun) -> None:
    """Guards: experts kept as fp32 masters that refuse tokens in bf16, and fp32 rows on the way: half the
    bytes of an fp32 run that left as many rows."""
    runs = two.run(train, BF16, spread_and_shard)
    gaps = [abs(a - b) for a, b in zip(runs[0].losses, expected.losses, strict=True)]
    assert 0 < max(gaps) <= TOLERANCE["experts_bf16_loss_vs_one_process"]
    moved = sum(run.bytes_moved["all_to_all"] for run in runs)
    assert moved == 4 * sum(run.n_left for run in runs) * UNEVEN.model.dim * 2


def grown() -> tuple[dict[str, Tensor], Transformer]:
    """Return a dense model's tensors as a mixture of equal experts, and the dense model."""
    dense = build(replace(UNEVEN, model=ODD))
    return upcycle(model_tensors(dense), 4, 0.02, 3), dense


def upcycled_loss(group: ProcessGroup, engine: Engine) -> tuple[float, list[str]]:
    """Return the mean loss of an upcycled mixture over ranks, and what the ranks call their experts."""
    model = Transformer(MIXTURE)
    load_tensors(model, grown()[0])
    trained = engine(group, UNEVEN, model)
    batch = micro_batches(UNEVEN, 0)[0].chunk(group.world_size)[group.rank]
    loss = loss_of(trained.module, batch)
    loss.backward()
    return float(group.mean(loss)), list(trained.experts.parameters)


@pytest.mark.parametrize("engine", [spread_and_replicate, spread_and_shard])
def test_an_upcycled_mixture_is_spread(two: Ranks, engine: Engine) -> None:
    """Guards: local experts taken for replicated ones: upcycled, the ranks' experts are equal numbers."""
    tensors, _ = grown()
    model = Transformer(MIXTURE)
    load_tensors(model, tensors)
    expected = float(loss_of(model, micro_batches(UNEVEN, 0)[0]).detach())
    for loss, names in two.run(upcycled_loss, engine):
        assert abs(loss - expected) <= TOLERANCE["experts_loss_vs_one_process"]
        assert names == [
            f"blocks.{i}.feed_forward.experts_{n}" for i in range(3) for n in ("gate", "up", "down")
        ]


def load_and_give_back(group: ProcessGroup, engine: Engine, path: Path) -> tuple[dict[str, Tensor], bool]:
    """Load a file whole into a model over ranks and take it out; say whether this rank holds E/W experts."""
    trained = engine(group, UNEVEN, build(UNEVEN))
    trained.load_full(read_safetensors(path))
    n_here = {len(parameter) for parameter in trained.experts.parameters.values()}
    return trained.full_tensors(), n_here == {4 // group.world_size}


@pytest.mark.parametrize("engine", [spread_and_replicate, spread_and_shard])
def test_files_do_not_know_the_number_of_ranks(
    one: ProcessGroup, two: Ranks, four: Ranks, engine: Engine, tmp_path: Path
) -> None:
    """Guards: a checkpoint that only as many ranks can read as wrote it. One process's file goes through one,
    two and four ranks, and stays the same bytes."""
    model = build_uneven(UNEVEN)
    write_safetensors(tmp_path / "0", model_tensors(model))
    runs = (
        [load_and_give_back(one, engine, tmp_path / "0")],
        two.run(load_and_give_back, engine, tmp_path / "0"),
    )
    for i, results in enumerate((*runs, four.run(load_and_give_back, engine, tmp_path / "0")), start=1):
        assert all(has_its_share for _, has_its_share in results)
        assert all(tensors == {} for tensors, _ in results[1:]), "whole on rank 0 alone"
        write_safetensors(tmp_path / str(i), results[0][0])
        assert (tmp_path / str(i)).read_bytes() == (tmp_path / "0").read_bytes()
    other = build(UNEVEN)
    load_tensors(other, read_safetensors(tmp_path / "3"))
    ids = torch.arange(13).view(1, -1) % VOCAB
    assert torch.equal(other(ids), model(ids))


def moments_there_and_back(group: ProcessGroup, engine: Engine) -> tuple[dict[str, Tensor], bool]:
    """Return a step's moments whole; say whether cutting them gives this rank's own."""
    trained = engine(group, UNEVEN, build_uneven(UNEVEN))
    optimizer = torch.optim.AdamW(trained.parameters(), lr=0.01)
    loss_of(trained.module, micro_batches(UNEVEN, 0)[0].chunk(group.world_size)[group.rank]).backward()
    if isinstance(trained, Replicas):
        trained.average_gradients()
    optimizer.step()
    own = {name: optimizer.state[p]["exp_avg"] for name, p in trained.named_parameters()}
    full = trained.full_tensors(own)
    shared = [full]
    if group.world_size > 1:
        torch.distributed.broadcast_object_list(shared)
    cut = trained.cut(shared[0])
    return full, all(torch.equal(cut[name], moment) for name, moment in own.items())


@pytest.mark.parametrize("engine", [spread_and_replicate, spread_and_shard])
def test_moments_do_not_know_the_number_of_ranks(one: ProcessGroup, two: Ranks, engine: Engine) -> None:
    """Guards: an optimizer's state that resumes at another expert, or on as many ranks only."""
    expected, fits = moments_there_and_back(one, engine)
    assert fits
    results = two.run(moments_there_and_back, engine)
    assert all(fits for _, fits in results)
    assert set(results[0][0]) == set(expected)
    for name, moment in expected.items():
        gap = float((results[0][0][name] - moment).abs().max())
        assert gap <= TOLERANCE["experts_weights_vs_one_process"], name


def refuse_three(group: ProcessGroup) -> str:
    with pytest.raises(ValueError, match="ranks") as error:
        spread_experts(build(replace(UNEVEN, model=replace(MIXTURE, n_experts=3))), group)
    return str(error.value)


def refuse_other_weights(group: ProcessGroup) -> str:
    model = build(UNEVEN)
    with torch.no_grad():
        model.blocks[1].feed_forward.experts_up[3] += group.rank  # type: ignore[index, union-attr, operator]
    with pytest.raises(ValueError, match="different weights") as error:
        spread_experts(model, group)
    return str(error.value)


def test_what_cannot_be_spread_is_refused_by_all(one: ProcessGroup, two: Ranks) -> None:
    """Guards: a rank with an expert more than the others and no word of it; experts of two different runs;
    a model spread twice, each rank with a quarter of its experts."""
    assert all("has 3, which 2 ranks do not divide; start 1, 3 ranks" in t for t in two.run(refuse_three))
    assert all(t.startswith("blocks.1.feed_forward.experts_up: ") for t in two.run(refuse_other_weights))
    with pytest.raises(ValueError, match="no mixture of experts"):
        spread_experts(build(replace(UNEVEN, model=ODD)), one)
    model = build(UNEVEN)
    spread_experts(model, one)
    with pytest.raises(ValueError, match=r"blocks.0.feed_forward: its tokens are dispatched already"):
        spread_experts(model, one)
    with pytest.raises(ValueError, match="leave out balance_over_ranks"):
        balance_over_ranks(model, one)
    experts = LocalExperts(model, one)
    with pytest.raises(ValueError, match="but not in what is loaded"):
        experts.cut({})
    wrong = {name: torch.zeros(2, 2) for name in experts.parameters}
    with pytest.raises(ValueError, match=r"experts_gate: shape \(2, 2\), \(4, 50, 36\) is needed"):
        experts.cut(wrong)


def test_the_rest_of_the_experts_memory_is_given_back(two: Ranks) -> None:
    """Guards: a slice kept as a view of all experts, which saves a rank nothing."""
    assert two.run(storage_of_experts) == [2 * 50 * 36 * 4] * 2


def storage_of_experts(group: ProcessGroup) -> int:
    model = build(UNEVEN)
    spread_experts(model, group)
    parameter = next(iter(LocalExperts(model, group).parameters.values()))
    return parameter.untyped_storage().nbytes()

"""gpt/parallel/zero3.py: the same numbers as one process, on one, two and four ranks."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import set_checkpoint_early_stop

from gpt.checkpoint.save_load import model_tensors
from gpt.parallel.memory import SLACK, account
from gpt.parallel.process_group import ProcessGroup, open_group
from gpt.parallel.zero3 import shard_zero3
from tests.distributed import Ranks
from tests.parallel.training import (
    EVERY_DIAL,
    LARGE,
    MIXTURE,
    ODD,
    Case,
    Run,
    build,
    gap,
    loss_of,
    micro_batches,
    reference,
    shard,
    train,
)
from tests.tolerances import TOLERANCE

GPT2 = replace(ODD, norm="layernorm", activation="gelu", position="learned", bias=True, n_kv_heads=3)
BF16 = Case(compute_dtype=torch.bfloat16, accumulation=1, max_norm=1e9)


@pytest.fixture(scope="module")
def two() -> Iterator[Ranks]:
    ranks = Ranks(2)
    yield ranks
    ranks.end()


@pytest.fixture(scope="module")
def one() -> ProcessGroup:
    return open_group("gloo")


def assert_equal_runs(run: Run, expected: Run) -> None:
    loss_gap, weight_gap = gap(run, expected)
    assert loss_gap <= TOLERANCE["zero3_loss_vs_one_process"]
    assert weight_gap <= TOLERANCE["zero3_weights_vs_one_process"]


def test_one_two_and_four_ranks_train_the_model_of_one_process(one: ProcessGroup, two: Ranks) -> None:
    """Guards: a gradient summed for a mean, a clip by one rank's norm, a slice that another rank has too,
    an accumulation that forgets, over ten steps in which every one is clipped and no size divides."""
    expected = reference(Case(), 1)
    assert min(expected.norms) > Case().max_norm, "nothing was clipped"
    four = Ranks(4)
    try:
        for runs in ([train(one, Case())], two.run(train, Case()), four.run(train, Case())):
            assert_equal_runs(runs[0], expected)
            assert all((run.losses, run.norms) == (runs[0].losses, runs[0].norms) for run in runs)
    finally:
        four.end()


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(Case(model=replace(ODD, tie_embeddings=False)), id="untied"),
        pytest.param(Case(model=EVERY_DIAL), id="dropout, value residual, token shift, bigrams"),
        pytest.param(Case(model=EVERY_DIAL, recompute=True), id="the same, recomputed"),
        pytest.param(Case(model=MIXTURE, recompute=True), id="mixture with balance loss, recomputed"),
        pytest.param(Case(model=GPT2, prefetch=0), id="gpt2, nothing prefetched"),
        pytest.param(Case(has_unused=True, prefetch=5), id="unused parameters, all prefetched"),
    ],
)
def test_every_kind_of_block_trains_as_in_one_process(two: Ranks, case: Case) -> None:
    """Guards: equal dropout masks on all ranks, a mask drawn anew when a block is computed again, a mixture's
    balance loss that leaves its block beside the output, weight decay on a parameter without a gradient."""
    assert_equal_runs(two.run(train, case)[0], reference(case, 2))


def train_recomputing_to_the_end(group: ProcessGroup, case: Case) -> Run:
    with set_checkpoint_early_stop(False):
        return train(group, case)


def test_a_block_computed_again_to_its_end_stays(two: Ranks) -> None:
    """Guards: a recomputed block freed by its own forward pass, just before the way back needs it. Torch
    mostly stops such a pass early, so that the others would not see it."""
    case = Case(model=EVERY_DIAL, recompute=True, steps=3)
    assert_equal_runs(two.run(train_recomputing_to_the_end, case)[0], reference(case, 2))


@pytest.mark.parametrize("model", [ODD, MIXTURE], ids=["dense", "mixture"])
def test_bf16_computes_on_fp32_masters(two: Ranks, model: object) -> None:
    """Guards: masters or a mean rounded to bf16, a router that is not kept in fp32."""
    case = replace(BF16, model=model)
    loss_gap, weight_gap = gap(two.run(train, case)[0], reference(case, 2))
    assert loss_gap <= TOLERANCE["zero3_bf16_loss_vs_one_process"]
    assert weight_gap == 0.0


@pytest.mark.parametrize("recompute", [False, True])
def test_bytes_moved_are_the_formula(two: Ranks, recompute: bool) -> None:
    """Guards: a unit gathered twice, or once more because it is computed again; 3 P (W - 1) / W elements a
    micro batch but for the two gathers saved, of the root and of the last block."""
    case = Case(model=LARGE, steps=3, accumulation=2, recompute=recompute)
    model = build(case)
    block = sum(parameter.numel() for parameter in model.blocks[0].parameters())
    root = sum(parameter.numel() for parameter in model.parameters()) - 4 * block
    for run in two.run(train, case):
        for name, elements in (
            ("all_gather", root + (2 * 4 - 1) * block),
            ("reduce_scatter", root + 4 * block),
        ):
            expected = case.steps * case.accumulation * 4 * elements / 2
            assert run.bytes_moved[name] == pytest.approx(expected, rel=1e-3), name


def measure_memory(group: ProcessGroup, case: Case) -> tuple[float, int, str]:
    zero3 = shard(build(case), group, case)
    optimizer = torch.optim.AdamW(zero3.parameters(), lr=0.01, fused=True)
    token_ids = torch.zeros((1, 5), dtype=torch.int64)

    def step() -> None:
        for _ in range(2):
            loss_of(zero3.module, token_ids).backward()  # type: ignore[arg-type]
        zero3.clip_grad_norm(1.0)
        optimizer.step()
        optimizer.zero_grad()

    step()
    return account(zero3, optimizer, step)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_memory_of_a_rank_is_the_formula(two: Ranks, dtype: torch.dtype) -> None:
    """Guards: a whole that is not freed, a gradient kept whole, moments of the whole model on each rank."""
    for computed, measured, table in two.run(measure_memory, Case(model=LARGE, compute_dtype=dtype)):
        assert measured == pytest.approx(computed, rel=SLACK), table


def save_and_load(group: ProcessGroup, case: Case) -> tuple[dict[str, Tensor], bool, bool]:
    """Train a little, take everything out whole, put it into another model; say whether all is as it was."""
    zero3 = shard(build(case), group, case)
    optimizer = torch.optim.AdamW(zero3.parameters(), lr=0.01)
    batch = micro_batches(case, 0)[0]
    loss_of(zero3.module, batch).backward()  # type: ignore[arg-type]
    optimizer.step()
    full = zero3.full_tensors()
    moments = {name: optimizer.state[piece]["exp_avg"] for name, piece in zero3.named_parameters()}
    full_moments = zero3.full_tensors(moments)
    for tensors in (full, full_moments):
        for name, slot in ((s.name, s) for flat in zero3.flats for s in flat.slots):
            value = tensors[name].contiguous() if group.rank == 0 else torch.empty(slot.shape)
            torch.distributed.broadcast(value, 0)
            tensors[name] = value
    other = shard(build(case), group, case)
    other.load_full(full)
    pieces = other.cut(full_moments)
    with torch.no_grad():
        is_equal = torch.equal(zero3.module(batch), other.module(batch))
    return full, is_equal, all(torch.equal(pieces[name], moment) for name, moment in moments.items())


def test_whole_tensors_come_out_and_go_in(two: Ranks) -> None:
    """Guards: a checkpoint that depends on the number of ranks, a slice put back at another place."""
    case = Case(max_norm=1e9)
    model = build(case)
    results = two.run(save_and_load, case)
    assert {name: t.shape for name, t in results[0][0].items()} == {
        name: t.shape for name, t in model_tensors(model).items()
    }
    assert all(is_equal and are_moments_equal for _, is_equal, are_moments_equal in results)


def test_whole_tensors_are_rank_zeros_alone(two: Ranks) -> None:
    """Guards: every rank with the whole model in its host memory."""
    full = [run.tensors for run in two.run(train, Case(steps=1))]
    assert set(full[0]) == set(model_tensors(build(Case())))
    assert full[1] == {}


def use_out_of_turn(group: ProcessGroup) -> tuple[float, list[int]]:
    """Two passes before one way back, with validation before and between; return the gap and what stayed."""
    case = Case(max_norm=1e9)
    plain, zero3 = build(case), shard(build(case), group, case)
    first, second = micro_batches(case, 0)
    with torch.inference_mode():
        zero3.module(first)
    held = [flat.whole.untyped_storage().nbytes() for flat in zero3.flats]
    for model in (plain, zero3.module):
        loss = loss_of(model, first)  # type: ignore[arg-type]
        with torch.no_grad():
            model(second)
        (loss + loss_of(model, second)).backward()  # type: ignore[arg-type]
    held += [flat.whole.untyped_storage().nbytes() for flat in zero3.flats]
    expected = zero3.cut({name: p.grad for name, p in plain.named_parameters()})  # type: ignore[misc]
    return max(float((p.grad - expected[n]).abs().max()) for n, p in zero3.named_parameters()), held  # type: ignore[operator]


def test_passes_out_of_turn(two: Ranks) -> None:
    """Guards: memory freed under a graph that still needs it (DPO's two passes), a validation that keeps
    the whole model."""
    for difference, held in two.run(use_out_of_turn):
        assert difference <= TOLERANCE["zero3_weights_vs_one_process"]
        assert not any(held)


def uneven_gradients(group: ProcessGroup) -> str:
    model = build(Case(has_unused=True))
    forward = model.forward
    model.forward = lambda ids: forward(ids) + (model.unused.sum() if group.rank == 0 else 0)  # type: ignore
    zero3 = shard(model, group, Case())
    loss_of(model, micro_batches(Case(), 0)[0]).backward()
    with pytest.raises(ValueError, match="some ranks") as error:
        zero3.clip_grad_norm(1.0)
    return str(error.value)


def other_weights(group: ProcessGroup) -> str:
    model = build(Case())
    with torch.no_grad():
        model.final_norm.weight += group.rank
    with pytest.raises(ValueError, match="different weights") as error:
        shard(model, group, Case())
    return str(error.value)


def test_ranks_that_differ_are_refused_by_all(two: Ranks) -> None:
    """Guards: a mean of what only one rank computed; a model initialized from a rank's own seed."""
    assert all(text.startswith("unused: ") for text in two.run(uneven_gradients))
    assert all(text.startswith("final_norm.weight: ") for text in two.run(other_weights))


def test_an_optimizer_of_whole_matrices_is_refused(one: ProcessGroup) -> None:
    """Guards: Muon orthogonalizing a rank's slice as if it were the matrix."""
    zero3 = shard(build(Case()), one, Case())
    loss_of(zero3.module, micro_batches(Case(), 0)[0]).backward()  # type: ignore[arg-type]
    matrices = [piece for piece in zero3.parameters() if piece.ndim == 2]
    with pytest.raises(ValueError, match=r"Muon needs whole matrices.*write adamw"):
        torch.optim.Muon(matrices, lr=0.1).step()


def test_what_cannot_be_sharded_is_refused(one: ProcessGroup) -> None:
    """Guards: a parameter freed while in use, or silently left out."""
    model = build(Case())
    blocks = list(model.blocks)
    with pytest.raises(ValueError, match="units: none given"):
        shard_zero3(model, [], one)
    with pytest.raises(ValueError, match="no submodule"):
        shard_zero3(model, [torch.nn.Linear(1, 1)], one)
    with pytest.raises(ValueError, match="part of another unit"):
        shard_zero3(model, [*blocks, blocks[0].attention], one)
    with pytest.raises(ValueError, match=r"embed.weight of another unit"):
        shard_zero3(model, [*blocks, model.lm_head], one)
    with pytest.raises(ValueError, match=r"compute_dtype: got torch.float16"):
        shard_zero3(model, blocks, one, compute_dtype=torch.float16)
    with pytest.raises(ValueError, match="prefetch"):
        shard_zero3(model, blocks, one, prefetch=-1)
    blocks[0].attention.q_proj.weight.requires_grad_(False)
    with pytest.raises(ValueError, match=r"blocks.0.attention.q_proj.weight: is frozen"):
        shard_zero3(model, blocks, one)
    zero3 = shard(build(Case()), one, Case())
    with pytest.raises(ValueError, match="in the model or in what is loaded"):
        zero3.load_full({})

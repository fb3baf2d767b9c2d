"""gpt/parallel/flat_parameter.py: every element is one rank's, at an aligned place."""

import pytest
import torch
from torch import nn

from gpt.parallel.flat_parameter import ALIGNMENT, FlatParameter
from gpt.parallel.process_group import ProcessGroup


def make(rank: int, world_size: int) -> tuple[nn.Module, dict[str, torch.Tensor], FlatParameter]:
    model = nn.ModuleDict({"a": nn.Linear(7, 5), "b": nn.Linear(3, 50, bias=False)})
    generator = torch.Generator().manual_seed(0)
    values = {name: torch.randn(p.shape, generator=generator) for name, p in model.named_parameters()}
    for name, parameter in model.named_parameters():
        parameter.data = values[name].clone()
    owners = {"a.weight": [(model["a"], "weight")], "a.bias": [(model["a"], "bias")]}
    owners |= {"b.weight": [(model["b"], "weight")]}
    group = ProcessGroup(rank, world_size, rank, torch.device("cpu"))
    dtypes = {"compute_dtype": torch.float32, "reduce_dtype": torch.float32}
    return model, values, FlatParameter(owners, group, **dtypes)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 64])
def test_the_ranks_pieces_are_the_parameters(world_size: int) -> None:
    """Guards: an element that two ranks update or none, with more ranks than some parameters have rows."""
    values = make(0, world_size)[1]
    flats = [make(rank, world_size)[2] for rank in range(world_size)]
    for i, (name, value) in enumerate(values.items()):
        pieces = [flat.pieces[i] for flat in flats]
        assert torch.equal(torch.cat([piece.detach().flatten() for piece in pieces]), value.flatten()), name
        assert {piece.ndim for piece in pieces} == {value.ndim}, "rules by ndim must hold for pieces"
    shards = torch.cat([flat.shard for flat in flats])
    assert float(shards.square().sum()) == pytest.approx(
        sum(float(v.square().sum()) for v in values.values())
    )


def test_parameters_begin_aligned() -> None:
    """Guards: matmuls on memory that no vector instruction likes."""
    flat = make(1, 3)[2]
    assert flat.n % ALIGNMENT == 0
    assert all(slot.span.start % ALIGNMENT == 0 for slot in flat.slots)


def test_the_whole_is_freed_and_comes_back_under_the_same_tensors() -> None:
    """Guards: a graph whose saved weights point to memory that is no longer theirs."""
    model, values, flat = make(0, 1)
    flat.wait_gathered()
    tensors = flat.tensors()
    versions = [tensor._version for tensor in tensors]
    flat.free()
    assert flat.whole.untyped_storage().nbytes() == 0
    assert model["a"].weight is flat.pieces[0]
    flat.wait_gathered()
    assert all(torch.equal(a, b) for a, b in zip(tensors, values.values(), strict=True))
    assert [tensor._version for tensor in tensors] == versions, "autograd would call them modified"


def test_a_second_gradient_is_added_and_none_stays_none() -> None:
    """Guards: an accumulation that overwrites; a parameter that weight decay moves without a gradient."""
    _, values, flat = make(0, 1)
    ones = [torch.ones_like(value) for value in values.values()]
    for gradients in ([ones[0], None, None], [ones[0], ones[1], None]):
        has_gradient = [gradient is not None for gradient in gradients]
        flat.finish_reduce(flat.start_reduce(gradients), has_gradient)
    weight, bias, other = flat.pieces
    assert weight.grad is not None
    assert bias.grad is not None
    assert weight.grad.unique().tolist() == [2.0]
    assert bias.grad.unique().tolist() == [1.0]
    assert other.grad is None
    assert flat.n_gradients == [2, 1, 0]

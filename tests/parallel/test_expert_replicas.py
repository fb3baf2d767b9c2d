"""gpt/parallel/expert_replicas.py: gradients averaged over ranks, clipped by one norm."""

import pytest
import torch
from torch import Tensor, nn

from gpt.parallel import expert_replicas
from gpt.parallel.expert_replicas import Replicas
from gpt.parallel.process_group import ProcessGroup
from tests.distributed import Ranks


def layers() -> nn.Sequential:
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    return model


def average(group: ProcessGroup, bucket: int) -> tuple[list[Tensor | None], float, dict[str, int]]:
    """Return the averaged, clipped gradients; rank r's are r + 1 everywhere, of one parameter it has none."""
    replicas = Replicas(layers(), group)
    for parameter in replicas.parameters()[:-1]:
        parameter.grad = torch.full_like(parameter, group.rank + 1.0)
    group.bytes_moved.clear()
    usual, expert_replicas.BUCKET = expert_replicas.BUCKET, bucket
    try:
        replicas.average_gradients()
    finally:
        expert_replicas.BUCKET = usual
    norm = float(replicas.clip_grad_norm(1.0))
    return [p.grad for p in replicas.parameters()], norm, dict(group.bytes_moved)


@pytest.mark.parametrize(("bucket", "n_sent"), [(1 << 20, 12), (6, 12), (1, 12)])
def test_the_mean_of_the_ranks_is_clipped_once(two: Ranks, bucket: int, n_sent: int) -> None:
    """By hand: 6 + 2 + 4 gradients whose mean is 1.5 have the norm 1.5 sqrt(12), a rank's share of which is
    counted once; clipped to 1 each is 1 / sqrt(12). W - 1 of W parts are moved by each of two collectives.
    Guards: a bucket's end left unaveraged, a gradient made for a parameter that has none."""
    for gradients, norm, moved in two.run(average, bucket):
        assert norm == pytest.approx(1.5 * 12**0.5)
        assert gradients[-1] is None
        for gradient in gradients[:-1]:
            assert gradient is not None
            assert torch.allclose(gradient, torch.full_like(gradient, 12**-0.5))
        assert moved["reduce_scatter"] == moved["all_gather"] == n_sent // 2 * 4


def uneven(group: ProcessGroup) -> str:
    replicas = Replicas(layers(), group)
    if group.rank:
        replicas.parameters()[1].grad = torch.zeros(2)
    with pytest.raises(ValueError, match="some ranks") as error:
        replicas.average_gradients()
    return str(error.value)


def other_weights(group: ProcessGroup) -> str:
    model = layers()
    with torch.no_grad():
        model[1].bias += group.rank
    with pytest.raises(ValueError, match="different weights") as error:
        Replicas(model, group)
    return str(error.value)


def test_ranks_that_differ_are_refused_by_all(two: Ranks) -> None:
    """Guards: a hang, or a mean of what only one rank computed; a model from a rank's own seed."""
    assert all(text.startswith("0.bias: got a gradient on some") for text in two.run(uneven))
    assert all(text.startswith("1.bias: the ranks hold different") for text in two.run(other_weights))


def load_amiss(group: ProcessGroup) -> None:
    replicas = Replicas(layers(), group)
    full = dict(replicas.module.state_dict())
    with pytest.raises(ValueError, match=r"tensor '1.bias' is in the model or in what is loaded"):
        replicas.load_full({name: tensor for name, tensor in full.items() if name != "1.bias"})
    with pytest.raises(ValueError, match=r"0.weight: shape \(2,\), \(2, 3\) is needed"):
        replicas.load_full(full | {"0.weight": torch.zeros(2)})


def test_what_does_not_fit_is_refused(two: Ranks) -> None:
    """Guards: a checkpoint of another model loaded in part."""
    two.run(load_amiss)

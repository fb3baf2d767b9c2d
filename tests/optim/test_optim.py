"""gpt/optim: schedules by hand, Muon's geometry, the optimizer's state."""

import dataclasses
import math

import pytest
import torch
from torch import nn

from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.transformer import Transformer
from gpt.optim.config import OptimConfig
from gpt.optim.muon import Muon, orthogonalize
from gpt.optim.optimizer import Optimizer
from gpt.optim.param_groups import split_parameters
from gpt.optim.schedule import lr_ratio
from tests.tolerances import TOLERANCE

CONFIG = OptimConfig(
    name="muon",
    lr=0.01,
    matrix_lr=0.02,
    beta1=0.9,
    beta2=0.95,
    weight_decay=0.1,
    schedule="cosine",
    warmup_steps=4,
    decay_fraction=0.5,
    min_lr_ratio=0.1,
    max_grad_norm=1.0,
)


def test_schedules_by_hand() -> None:
    """Guards: an off-by-one at the warm-up, a floor that is not reached.

    cosine over 4..20: half way (step 12) is 0.1 + 0.9 / 2. wsd: flat to step 10, then linear to the floor.
    """
    assert [lr_ratio(CONFIG, s, 20) for s in (0, 1, 3, 4)] == [0.25, 0.5, 1.0, 1.0]
    assert math.isclose(lr_ratio(CONFIG, 12, 20), 0.55)
    wsd = dataclasses.replace(CONFIG, schedule="wsd")
    assert [lr_ratio(wsd, s, 20) for s in (4, 9, 10)] == [1.0, 1.0, 1.0]
    assert math.isclose(lr_ratio(wsd, 15, 20), 0.1 + 0.9 * 5 / 10)
    assert math.isclose(lr_ratio(wsd, 19, 20), 0.1 + 0.9 * 1 / 10)


@pytest.mark.parametrize("shape", [(8, 8), (4, 16), (16, 4), (3, 8, 8)])
def test_orthogonalize_keeps_directions_and_levels_lengths(shape: tuple[int, ...]) -> None:
    """Guards: a transposed result, coefficients that diverge. The SVD is the reference."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    result = orthogonalize(matrix)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    values = torch.linalg.diagonal(u.mT @ result @ vh.mT)
    assert result.shape == matrix.shape
    assert (values - 1).abs().max() <= TOLERANCE["muon_singular_value"]


def test_muon_step_by_hand() -> None:
    """Guards: momentum of the wrong form, the shape factor, decay coupled with the gradient.

    First step: m = 0.05 g and the direction is g + 0.95 (m - g) = 0.0975 g, a positive multiple of g.
    """
    weight = nn.Parameter(torch.ones(8, 2))
    gradient = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    weight.grad = gradient.clone()
    Muon([weight], lr=0.5, weight_decay=0.1).step()
    expected = torch.ones(8, 2) * (1 - 0.05) - 0.5 * 2.0 * orthogonalize(gradient)
    assert torch.allclose(weight, expected, atol=1e-5)


def test_split_names_every_parameter_once(modern: ModelConfig) -> None:
    """Guards: decay on norms, an embedding under Muon, a tied weight updated twice."""
    model = Transformer(dataclasses.replace(modern, n_experts=4))
    matrices, decayed, plain = split_parameters(model, muon=True)
    assert len(matrices) + len(decayed) + len(plain) == len(list(model.parameters()))
    assert all(p.ndim == 1 for p in plain)
    names = {id(p): n for n, p in model.named_parameters()}
    assert {names[id(p)].split(".")[-2] for p in decayed} == {"embed", "router"}
    nothing, all_decayed, _ = split_parameters(model, muon=False)
    assert nothing == []
    assert len(all_decayed) == len(matrices) + len(decayed)


def steps(model: Transformer, optimizer: Optimizer, first: int, last: int) -> None:
    for step in range(first, last):
        ids = torch.randint(0, 320, (2, 9), generator=torch.Generator().manual_seed(step))
        logits = model(ids[:, :-1])
        nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.clip()
        optimizer.step(step)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_state_round_trip_continues_bit_for_bit(modern: ModelConfig, name: str) -> None:
    """Guards: a state tensor that is not saved, or restored to the wrong parameter."""
    config = dataclasses.replace(CONFIG, name=name)
    model = Transformer(modern)
    init_weights(model, 0)
    optimizer = Optimizer(model, config, 20)
    steps(model, optimizer, 0, 3)
    twin = Transformer(modern)
    twin.load_state_dict(model.state_dict())
    fresh = Optimizer(twin, config, 20)
    fresh.load_state_tensors({k: v.clone() for k, v in optimizer.state_tensors().items()})
    steps(model, optimizer, 3, 6)
    steps(twin, fresh, 3, 6)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


def test_adamw_equals_the_formula(modern: ModelConfig) -> None:
    """Guards: decay on a norm's gain. One step by hand: m/(1-b1) / (sqrt(v/(1-b2)) + eps) = sign(g)."""
    model = Transformer(modern)
    init_weights(model, 0, init_std=0.5)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = Optimizer(model, dataclasses.replace(CONFIG, name="adamw", warmup_steps=1), 20)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step(0)
    for name, parameter in model.named_parameters():
        decay = 0.01 * 0.1 if parameter.ndim >= 2 else 0.0
        expected = before[name] * (1 - decay) - 0.01 * 0.5 / (0.5 + 1e-8)
        assert (parameter - expected).abs().max() <= TOLERANCE["adamw_vs_torch"], name


def test_bad_dials_are_refused() -> None:
    """Guards: a negative rate that climbs the loss."""
    with pytest.raises(ValueError, match="lr: must be positive"):
        dataclasses.replace(CONFIG, lr=0.0)
    with pytest.raises(ValueError, match=r"beta2: 0\.\.1 is needed"):
        dataclasses.replace(CONFIG, beta2=1.5)

"""gpt/growth: a grown model starts where its parent stands."""

import dataclasses

import pytest
import torch
from torch import Tensor

from gpt.checkpoint.save_load import load_tensors, model_tensors
from gpt.growth.config import GrowthConfig
from gpt.growth.deepen import block_order
from gpt.growth.grow import grow
from gpt.model.config import ModelConfig
from gpt.model.init_weights import init_weights
from gpt.model.loss import mean_loss
from gpt.model.transformer import Transformer
from tests.tolerances import TOLERANCE

IDS = torch.randint(0, 320, (4, 17), generator=torch.Generator().manual_seed(0))


def parent_of(config: ModelConfig) -> Transformer:
    model = Transformer(config)
    init_weights(model, 0, init_std=0.2)
    with torch.no_grad():  # gains away from 1, so that a forgotten scale shows
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(1))
    return model.eval()


def growth(config: ModelConfig, **change: int) -> GrowthConfig:
    same = {f: getattr(config, f) for f in ("n_layers", "dim", "n_heads", "n_kv_heads", "ffn_dim")}
    rest = {"n_experts": 0, "n_experts_per_token": 2, "seed": 3, "router_std": 0.02}
    return GrowthConfig(**{**same, **rest, **change})  # type: ignore[arg-type]


def grown(parent: Transformer, **change: int) -> Transformer:
    architecture, tensors = grow(model_tensors(parent), parent.config, growth(parent.config, **change))
    model = Transformer(architecture)
    load_tensors(model, tensors)
    return model.eval()


@torch.no_grad()
def loss(model: Transformer) -> Tensor:
    return mean_loss(model(IDS[:, :-1]), IDS[:, 1:])


@pytest.mark.parametrize("n_layers", [3, 4, 7])
def test_depth_keeps_the_loss_exactly(modern: ModelConfig, n_layers: int) -> None:
    """Guards: a new block whose output is not zero."""
    parent = parent_of(modern)
    assert abs(loss(grown(parent, n_layers=n_layers)) - loss(parent)) <= TOLERANCE["deepened_loss"]


def test_depth_keeps_the_loss_in_gpt2_mode(gpt2_mode: ModelConfig) -> None:
    """Guards: the bias of a new block's output forgotten."""
    parent = parent_of(gpt2_mode)
    with torch.no_grad():
        for name, parameter in parent.named_parameters():
            if name.endswith("bias"):
                parameter.fill_(0.1)
    assert abs(loss(grown(parent, n_layers=4)) - loss(parent)) <= TOLERANCE["deepened_loss"]


def test_width_keeps_the_loss_under_rmsnorm(modern: ModelConfig) -> None:
    """Guards: RMSNorm's mean over more channels, new heads or units that speak before they learn."""
    parent = parent_of(modern)
    wide = grown(parent, dim=48, n_heads=6, n_kv_heads=3, ffn_dim=96, n_layers=3)
    assert abs(loss(wide) - loss(parent)) <= TOLERANCE["widened_loss"]


def test_growth_keeps_the_loss_with_the_small_scale_dials(modern: ModelConfig) -> None:
    """Guards: a copy of the first block, which has no value mix; a shift's share or a bigram row of the
    wrong width; bare norms widened, whose scale has nowhere to go."""
    dials = {"token_shift": True, "value_residual": True, "bigram_rows": 500}
    parent = parent_of(dataclasses.replace(modern, **dials))
    with torch.no_grad():
        parent.bigram.table.weight.normal_(generator=torch.Generator().manual_seed(2))
    wide = grown(parent, dim=48, n_heads=6, n_kv_heads=3, ffn_dim=96, n_layers=5)
    assert abs(loss(wide) - loss(parent)) <= TOLERANCE["widened_loss"]
    bare = parent_of(dataclasses.replace(modern, norm_gain=False))
    assert abs(loss(grown(bare, n_layers=3)) - loss(bare)) <= TOLERANCE["deepened_loss"]
    with pytest.raises(ValueError, match="norm_gain: widening scales the norms' gains"):
        grown(bare, dim=48, n_heads=6, n_kv_heads=3)


def test_grown_parts_learn(modern: ModelConfig) -> None:
    """Guards: new channels that are dead for ever: zero weights with zero gradients on both sides."""
    wide = grown(parent_of(modern), dim=48, n_heads=6, n_kv_heads=3, ffn_dim=96, n_layers=3).train()
    before = {n: p.detach().clone() for n, p in wide.named_parameters()}
    optimizer = torch.optim.SGD(wide.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        mean_loss(wide(IDS[:, :-1]), IDS[:, 1:]).backward()
        optimizer.step()
    for name, parameter in wide.named_parameters():
        if parameter.ndim == 2:
            moved = (parameter - before[name]).abs()
            assert moved[:, 32:].max() > 0, name
            assert moved[: len(moved) // 2].max() > 0, name


def test_upcycling_keeps_the_loss(modern: ModelConfig) -> None:
    """Guards: routing weights that do not sum to one."""
    parent = parent_of(modern)
    mixture = grown(parent, n_experts=8)
    assert mixture.config.n_experts == 8
    assert abs(loss(mixture) - loss(parent)) <= TOLERANCE["upcycled_loss"]


def test_the_parent_is_left_alone(modern: ModelConfig) -> None:
    """Guards: growth in place, which would change the parent's file on the next save."""
    parent = parent_of(modern)
    before = {n: t.clone() for n, t in model_tensors(parent).items()}
    grown(parent, dim=48, n_heads=6, n_kv_heads=3, ffn_dim=96)
    assert all(torch.equal(before[n], t) for n, t in model_tensors(parent).items())


def test_block_order_by_hand() -> None:
    """Guards: all new blocks at one end."""
    assert block_order(2, 3) == [(0, False), (0, True), (1, False)]
    assert block_order(3, 6) == [(0, False), (0, True), (1, False), (1, True), (2, False), (2, True)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_layers": 1}, "n_layers: 1 is below the parent's 2"),
        ({"dim": 64}, "n_heads: growth keeps the head dim 8; with dim 64 write n_heads 8"),
        ({"dim": 48, "n_heads": 6}, "n_kv_heads: growth keeps 2 query heads per kv head; write n_kv_heads 3"),
    ],
)
def test_impossible_growth_says_what_to_write(modern: ModelConfig, change: dict, message: str) -> None:
    """Guards: a shape error in the middle of copying."""
    with pytest.raises(ValueError, match=message):
        grown(parent_of(modern), **change)


def test_a_mixture_is_not_grown_again(modern: ModelConfig) -> None:
    """Guards: experts of experts."""
    config = dataclasses.replace(modern, n_experts=4)
    with pytest.raises(ValueError, match="mixture already"):
        grow({}, config, growth(config))

"""Token shift, value residual, bigram embedding, norms without gains, dropout, recomputation."""

import dataclasses

import pytest
import torch

from gpt.model.bigram_embedding import BigramEmbedding
from gpt.model.config import ModelConfig
from gpt.model.dropout import Dropout
from gpt.model.flops import count_parameters
from gpt.model.kv_cache import KVCache
from gpt.model.token_shift import TokenShift
from gpt.model.transformer import Transformer
from tests.model.every_part import make
from tests.tolerances import TOLERANCE

EVERY_DIAL = {"token_shift": True, "value_residual": True, "bigram_rows": 500, "norm_gain": False}


@pytest.fixture
def config(modern: ModelConfig) -> ModelConfig:
    """The tiny modern model with every dial of fast small-scale training."""
    return dataclasses.replace(modern, n_layers=3, **EVERY_DIAL)


def test_token_shift_by_hand() -> None:
    """By hand: share 0.25 of the previous position; x = [4, 8] gives [3, 7], and after a 12 [6, 7]."""
    shift = TokenShift(1)
    with torch.no_grad():
        shift.share.fill_(0.25)
        x = torch.tensor([[[4.0], [8.0]]])
        assert shift(x).flatten().tolist() == [3.0, 7.0]
        assert shift(x, torch.tensor([[[12.0], [4.0]]])).flatten().tolist() == [6.0, 7.0]


def test_bigram_rows_are_the_pairs_own_or_shared_by_all_alike() -> None:
    """Guards: two pairs in one row of a full table; a hash that depends on the token alone."""
    full = BigramEmbedding(10, 4, 100)
    pairs = torch.cartesian_prod(torch.arange(10), torch.arange(10))
    assert len(set(full.rows(pairs[:, 0], pairs[:, 1]).tolist())) == 100
    small = BigramEmbedding(10, 4, 20)
    rows = small.rows(pairs[:, 0], pairs[:, 1])
    assert rows.min() >= 0
    assert rows.max() < 20
    assert len(rows.unique()) >= 15
    assert all(len(rows[pairs[:, 1] == token].unique()) > 3 for token in range(10))


@torch.no_grad()
def test_bigram_embedding_by_hand() -> None:
    """Row of (previous, token) is 10 previous + token; the first position has no pair, so zeros."""
    bigram = BigramEmbedding(10, 1, 100)
    bigram.table.weight.copy_(torch.arange(100.0)[:, None])
    ids = torch.tensor([[3, 7, 2]])
    assert bigram(ids).flatten().tolist() == [0, 37, 72]
    assert bigram(ids, torch.tensor([[5, 3, 7]])).flatten().tolist() == [53, 37, 72]


@torch.no_grad()
def test_value_residual_mixes_the_first_blocks_values(modern: ModelConfig) -> None:
    """By hand: with every share 1, later blocks attend over the first block's values alone, so their own
    v_proj does nothing; with every share 0 the first block's do nothing to them."""
    model = make(dataclasses.replace(modern, value_residual=True))
    ids = torch.arange(8)[None]
    model.blocks[1].attention.value_mix.fill_(1.0)
    before = model(ids)
    model.blocks[1].attention.v_proj.weight.mul_(3)
    assert torch.equal(model(ids), before)
    model.blocks[1].attention.value_mix.fill_(0.0)
    plain = Transformer(modern)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if "value_mix" not in k})
    assert torch.equal(model(ids), plain.eval()(ids))


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
@torch.no_grad()
def test_cached_equals_uncached(config: ModelConfig, backend: str) -> None:
    """Guards: a shift or a bigram that forgets the token before the chunk; values mixed twice."""
    model = make(dataclasses.replace(config, attention_backend=backend))
    ids = torch.arange(24).view(2, 12)
    cache = KVCache(model.config, 2)
    pieces = [model(part, cache) for part in ids.split([5, 1, 4, 2], dim=1)]
    assert (torch.cat(pieces, 1) - model(ids)).abs().max() <= TOLERANCE["logits_cached_vs_uncached"]


@torch.no_grad()
def test_future_tokens_change_nothing(config: ModelConfig) -> None:
    """Guards: a shift or a pair that looks ahead."""
    model = make(config)
    a, b = torch.arange(10)[None], torch.arange(10)[None].clone()
    b[0, 6:] = 100
    assert torch.equal(model(a)[:, :6], model(b)[:, :6])
    assert not torch.equal(model(a)[:, 6:], model(b)[:, 6:])


def test_counts_include_the_dials(config: ModelConfig, gpt2_mode: ModelConfig) -> None:
    """Guards: a preset's truth that forgets the bigram table or the norms' missing gains."""
    for each in (config, dataclasses.replace(gpt2_mode, bias=False, norm_gain=False)):
        counted = sum(p.numel() for p in Transformer(each).parameters())
        assert count_parameters(each).total == counted
    with pytest.raises(ValueError, match="norm_gain: a norm without gains has no bias"):
        dataclasses.replace(gpt2_mode, norm_gain=False)
    with pytest.raises(ValueError, match="bigram_rows: must not be negative, got -1"):
        dataclasses.replace(gpt2_mode, bigram_rows=-1)


def test_recomputed_blocks_give_the_same_gradients(config: ModelConfig) -> None:
    """Guards: other dropout masks on the way back, first values that carry no gradient."""
    model = make(dataclasses.replace(config, dropout=0.3)).train()
    ids = torch.arange(24).view(2, 12)
    gradients = []
    for recompute in (False, True):
        model.recompute_blocks = recompute
        model.zero_grad()
        torch.manual_seed(5)
        model(ids).square().mean().backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_dropout_keeps_the_stated_share_and_the_mean() -> None:
    """Guards: a wrong scale, bytes that are not uniform (a sign bit that is always 0), a fixed mask.

    10^6 draws: the share's standard error is 0.0003 at p = 0.125, which is 32/256 exactly.
    """
    dropout = Dropout(0.125).train()
    x = torch.ones(1000, 1003, requires_grad=True)
    torch.manual_seed(0)
    out = dropout(x)
    out.sum().backward()
    kept = out.detach() != 0
    assert abs(kept.float().mean().item() - 0.875) < 0.002
    by_lane = kept.flatten()[: 1000 * 1000].view(-1, 8).float().mean(0)
    assert (by_lane - 0.875).abs().max() < 0.006
    assert torch.equal(out.detach()[kept], torch.full((int(kept.sum()),), 256 / 224))
    assert x.grad is not None
    assert torch.equal(x.grad, out.detach())
    torch.manual_seed(0)
    assert torch.equal(dropout(x), out)
    assert not torch.equal(dropout(x), out)
    assert dropout.eval()(x) is x


@pytest.mark.parametrize("p", [0.001, 0.999])
def test_a_dropout_that_rounds_away_is_refused(p: float) -> None:
    """Guards: a dial that silently does nothing, or drops everything and divides by zero."""
    with pytest.raises(ValueError, match=f"dropout: got {p}"):
        Dropout(p)

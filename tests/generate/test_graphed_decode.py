"""Decoding with fixed shapes equals the plain loop; on a GPU, by recorded graphs."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from gpt.generate.config import SamplingConfig
from gpt.generate.engine import generate, next_logits
from gpt.generate.graphed_decode import GraphedDecode, is_graphed, positions_read
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer
from tests.generate.every_kind import BASE, KINDS, model_of
from tests.tolerances import TOLERANCE

PROMPT, FURTHER = [5, 17, 30, 42, 9], [7, 8, 30, 31, 2, 2, 96, 11]
FIXED = [kind for kind in KINDS if kind != "mixture"]


@pytest.fixture(autouse=True)
def small_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let eight tokens cross from one number of positions to the next."""
    monkeypatch.setattr("gpt.generate.graphed_decode.LEAST_SEEN", 8)


def both(kind: str, device: str = "cpu") -> tuple[Transformer, GraphedDecode, KVCache]:
    """Return a model, and two caches that read the prompt, one of them handed to a GraphedDecode."""
    model = model_of(kind).to(device)
    caches = [KVCache(model.config, 1, device=device) for _ in range(2)]
    for cache in caches:
        next_logits(model, torch.tensor([PROMPT], device=device), cache)
    return model, GraphedDecode(model, caches[0]), caches[1]


def pairs(model: Transformer, graphed: GraphedDecode, cache: KVCache) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the logits behind each of FURTHER: with fixed shapes, and plain."""
    device = cache.keys.device
    for token in FURTHER:
        yield graphed.logits(token), next_logits(model, torch.tensor([[token]], device=device), cache)


@pytest.mark.parametrize("kind", FIXED)
def test_fixed_shapes_change_nothing(kind: str) -> None:
    """Guards: a mask off by one, a token of the pass before, a cut at a power of two."""
    for ours, plain in pairs(*both(kind)):
        assert torch.allclose(ours, plain, atol=TOLERANCE["decode_cached_vs_uncached"])


@pytest.mark.parametrize("kind", FIXED)
def test_a_warm_up_leaves_no_trace(kind: str) -> None:
    """Guards: the passes before a recording, counted or remembered as part of the text."""
    model, graphed, cache = both(kind)
    graphed._token.fill_(FURTHER[0])
    with torch.inference_mode():
        graphed._warm_up()
    for ours, plain in pairs(model, graphed, cache):
        assert torch.allclose(ours, plain, atol=TOLERANCE["decode_cached_vs_uncached"])


def test_the_likeliest_token_is_fed_without_the_host() -> None:
    """Guards: a chain of steps that feeds something else than its own choice."""
    model, graphed, cache = both("modern")
    token = int(graphed.logits(3).argmax())
    plain = int(next_logits(model, torch.tensor([[3]]), cache).argmax())
    for _ in range(6):
        graphed.step()
        plain = int(next_logits(model, torch.tensor([[plain]]), cache).argmax())
        token = int(graphed._logits.argmax())
        assert token == plain


def test_a_full_context_is_refused() -> None:
    """Guards: a write behind the cache's end."""
    model = model_of("modern")
    cache = KVCache(model.config, 1)
    next_logits(model, torch.tensor([[3] * BASE.max_seq_len]), cache)
    with pytest.raises(ValueError, match="49 tokens do not fit max_seq_len 48"):
        GraphedDecode(model, cache).logits(1)


def test_positions_read() -> None:
    """Guards: a graph for every length, or one that reads less than is filled."""
    assert [positions_read(BASE, end) for end in (1, 8, 9, 16, 17, 32, 33, 48)] == [
        8,
        8,
        16,
        16,
        32,
        32,
        48,
        48,
    ]


def test_who_is_graphed() -> None:
    """Guards: graphs on a CPU, or of a model whose host must read counts."""
    assert not is_graphed(model_of("modern"), "cpu")
    assert is_graphed(model_of("modern"), "cuda:0")
    assert not is_graphed(model_of("mixture"), "cuda")


def test_generate_goes_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: an engine that feeds a token twice or skips the prompt's own logits when it hands over."""
    model, sampling = model_of("modern"), SamplingConfig(max_tokens=30, seed=0, temperature=0.8)
    plain = [step.token_id for step in generate(model, PROMPT, sampling)]
    monkeypatch.setattr("gpt.generate.engine.is_graphed", lambda model, device: True)
    assert [step.token_id for step in generate(model, PROMPT, sampling)] == plain


@pytest.mark.gpu
@pytest.mark.parametrize("kind", FIXED)
def test_graphs_equal_the_plain_loop(kind: str) -> None:
    """Guards: a recording that misses a kernel, or replays one on tensors that are gone."""
    for ours, plain in pairs(*both(kind, "cuda")):
        assert torch.allclose(ours, plain, atol=TOLERANCE["graphed_decode_vs_plain_gpu"])

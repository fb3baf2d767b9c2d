"""gpt/model: the transformer against a second, handwritten forward pass, and against itself."""

import dataclasses

import pytest
import torch
from torch import Tensor

from gpt.model.config import ModelConfig
from gpt.model.flops import count_parameters, training_flops_per_token
from gpt.model.init_weights import init_weights
from gpt.model.kv_cache import KVCache
from gpt.model.presets import PRESETS, preset
from gpt.model.transformer import Transformer
from tests.tolerances import TOLERANCE


def make(config: ModelConfig, seed: int = 0) -> Transformer:
    """Weights of 0.2: large enough that a wrong rotation or norm shows."""
    model = Transformer(config)
    init_weights(model, seed, init_std=0.2)
    return model.eval()


def handwritten(model: Transformer, ids: list[int]) -> Tensor:
    """Logits (T, V) of one sequence, position by position and head by head, from the state dict."""
    c, w = model.config, dict(model.state_dict())
    d, n = c.head_dim, len(ids)

    def norm(x: Tensor, name: str) -> Tensor:
        if c.norm == "layernorm":
            x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + c.norm_eps).sqrt()
            return x * w[f"{name}.weight"] + w.get(f"{name}.bias", torch.zeros(()))
        return rms(x, w[f"{name}.weight"])

    def rms(x: Tensor, gain: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + c.norm_eps).sqrt() * gain

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros(()))

    def turn(x: Tensor, p: int) -> Tensor:
        out = x.clone()
        for i in range(d // 2):
            angle = torch.tensor(p * c.rope_theta ** (-2 * i / d), dtype=torch.float64)
            a, b = x[i], x[i + d // 2]
            out[i] = a * angle.cos() - b * angle.sin()
            out[i + d // 2] = b * angle.cos() + a * angle.sin()
        return out

    x = w["embed.weight"][ids]
    if c.position == "learned":
        x = x + w["position.weight"][:n]
    for layer in range(c.n_layers):
        p = f"blocks.{layer}"
        h = norm(x, f"{p}.attention_norm")
        q = linear(h, f"{p}.attention.q_proj").view(n, c.n_heads, d)
        k = linear(h, f"{p}.attention.k_proj").view(n, c.n_kv_heads, d)
        v = linear(h, f"{p}.attention.v_proj").view(n, c.n_kv_heads, d)
        out = torch.zeros(n, c.n_heads, d)
        for head in range(c.n_heads):
            kv = head // (c.n_heads // c.n_kv_heads)
            qs, ks = list(q[:, head]), list(k[:, kv])
            if c.qk_norm:
                qs = [rms(t, w[f"{p}.attention.q_norm.weight"]) for t in qs]
                ks = [rms(t, w[f"{p}.attention.k_norm.weight"]) for t in ks]
            if c.position == "rope":
                qs = [turn(t, i) for i, t in enumerate(qs)]
                ks = [turn(t, i) for i, t in enumerate(ks)]
            for i in range(n):
                scores = torch.stack([qs[i] @ ks[j] for j in range(i + 1)]) / d**0.5
                out[i, head] = scores.softmax(0) @ v[: i + 1, kv]
        x = x + linear(out.reshape(n, -1), f"{p}.attention.o_proj")
        h = norm(x, f"{p}.ffn_norm")
        up = linear(h, f"{p}.feed_forward.up_proj")
        if c.activation == "swiglu":
            gate = linear(h, f"{p}.feed_forward.gate_proj")
            hidden = gate * torch.sigmoid(gate) * up
        elif c.activation == "gelu":
            hidden = 0.5 * up * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (up + 0.044715 * up**3)))
        else:
            hidden = up.clamp(min=0) ** 2
        x = x + linear(hidden, f"{p}.feed_forward.down_proj")
    logits = norm(x, "final_norm") @ w.get("lm_head.weight", w["embed.weight"]).T
    return c.logit_softcap * torch.tanh(logits / c.logit_softcap) if c.logit_softcap else logits


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"activation": "relu2", "logit_softcap": 15.0, "tie_embeddings": False},
        {"n_kv_heads": 4, "qk_norm": False},
        {"n_kv_heads": 1, "attention_backend": "reference"},
    ],
    ids=["modern", "relu2-softcap-untied", "mha", "mqa-reference"],
)
@torch.no_grad()
def test_modern_mode_equals_handwritten(modern: ModelConfig, change: dict) -> None:
    """Guards: a wrong head grouping, rotation, norm or activation."""
    model = make(dataclasses.replace(modern, **change))
    ids = [5, 17, 300, 2, 2, 99, 250]
    difference = (model(torch.tensor([ids]))[0] - handwritten(model, ids)).abs().max()
    assert difference <= TOLERANCE["logits_vs_handwritten"]


@torch.no_grad()
def test_gpt2_mode_equals_handwritten(gpt2_mode: ModelConfig) -> None:
    """Guards: LayerNorm's eps or bias, GELU's tanh form, learned positions."""
    model = make(gpt2_mode)
    ids = [5, 17, 300, 2, 2, 99, 250]
    difference = (model(torch.tensor([ids]))[0] - handwritten(model, ids)).abs().max()
    assert difference <= TOLERANCE["logits_vs_handwritten"]


@pytest.mark.parametrize("backend", ["sdpa", "reference"])
@torch.no_grad()
def test_cached_equals_uncached(modern: ModelConfig, backend: str) -> None:
    """Guards: a mask aligned to the wrong corner when a chunk follows a cached prefix."""
    model = make(dataclasses.replace(modern, attention_backend=backend))
    ids = torch.arange(24).view(2, 12)
    whole = model(ids)
    cache = KVCache(model.config, 2)
    pieces = [model(part, cache) for part in ids.split([5, 1, 4, 2], dim=1)]
    assert (torch.cat(pieces, 1) - whole).abs().max() <= TOLERANCE["logits_cached_vs_uncached"]


@torch.no_grad()
def test_future_tokens_change_nothing(modern: ModelConfig) -> None:
    """Guards: a model that sees its targets."""
    model = make(modern)
    a, b = torch.arange(10)[None], torch.arange(10)[None].clone()
    b[0, 6:] = 100
    assert torch.equal(model(a)[:, :6], model(b)[:, :6])


def test_too_long_a_sequence_is_refused(modern: ModelConfig) -> None:
    """Guards: positions past the rotary table read as an index error."""
    with pytest.raises(ValueError, match="33 tokens do not fit max_seq_len 32"):
        make(modern)(torch.zeros(1, 33, dtype=torch.long))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 30}, "n_heads: 4 does not divide dim 30"),
        ({"n_kv_heads": 3}, "n_kv_heads: 3 does not divide n_heads 4"),
        ({"n_layers": 0}, "n_layers: at least 1"),
        ({"n_experts": 2, "n_experts_per_token": 3}, "n_experts_per_token: 1..2"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_impossible_architectures_are_refused(modern: ModelConfig, change: dict, message: str) -> None:
    """Guards: a reshape error deep in the model instead of the dial's name."""
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(modern, **change)


def test_preset_counts_tell_the_truth() -> None:
    """Guards: a preset whose name lies. GPT-2's counts are the published ones."""
    stated = {"s4-tiny": 10e6, "s4-small": 25e6, "s4-medium": 80e6, "s4-large": 350e6}
    for name, config in PRESETS.items():
        with torch.device("meta"):
            counted = sum(p.numel() for p in Transformer(config).parameters())
        assert count_parameters(config).total == counted, name
        if name in stated:
            assert abs(counted / stated[name] - 1) <= 0.03, name
    assert count_parameters(preset("gpt2-124m")).total == 124_439_808
    assert count_parameters(preset("gpt2-350m")).total == 354_823_168
    with pytest.raises(ValueError, match="choose one of gpt2-124m"):
        preset("gpt2-125m")


def test_upcycled_124m_has_the_stated_parameters() -> None:
    """Guards: counting a mixture by its total or its active parameters where the other is meant.

    12 layers x 7 more experts x 2 x 768 x 3072 matrices = 396.4M above 124.4M without biases.
    """
    dense = dataclasses.replace(preset("gpt2-124m"), bias=False)
    mixture = dataclasses.replace(dense, n_experts=8)
    router = 12 * 768 * 8
    expert = 2 * 768 * 3072
    assert count_parameters(mixture).total - count_parameters(dense).total == 12 * 7 * expert + router
    assert count_parameters(mixture).active - count_parameters(dense).total == 12 * expert + router
    assert round(count_parameters(mixture).total / 1e6) == 521
    assert round(count_parameters(mixture).active / 1e6) == 181


def test_training_flops_by_hand() -> None:
    """Guards: MFU against the wrong count.

    dim 8, 1 layer, 2 heads, relu2 F 16, V 10, T 4: matmul parameters 4*64 + 2*8*16 + 80 = 592, plus the
    norms' 24; 6*616 + 12*1*8*4 = 4080.
    """
    config = ModelConfig(
        vocab_size=10,
        max_seq_len=4,
        dim=8,
        n_layers=1,
        n_heads=2,
        n_kv_heads=2,
        ffn_dim=16,
        activation="relu2",
    )
    assert training_flops_per_token(config, 4) == 6 * 616 + 12 * 8 * 4


def test_a_seed_names_a_model(modern: ModelConfig) -> None:
    """Guards: initial weights that depend on the order in which modules are built."""
    a, b, c = make(modern, 1).state_dict(), make(modern, 1).state_dict(), make(modern, 2).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert not torch.equal(a["embed.weight"], c["embed.weight"])

"""Second forward passes over foreign files as they are: other names, other layouts, nothing of gpt/model."""

import math
from typing import Any

import torch
from torch import Tensor


def causal(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of heads (H, T, D), keys and values repeated already; returns (T, H * D)."""
    t = q.shape[1]
    scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])  # (H, T, T)
    scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), -math.inf)
    return (scores.softmax(-1) @ v).transpose(0, 1).reshape(t, -1)


def heads(x: Tensor, n: int) -> Tensor:
    """(T, n * D) -> (n, T, D)."""
    return x.reshape(len(x), n, -1).transpose(0, 1)


def gpt2_logits(w: dict[str, Tensor], ids: list[int], n_heads: int, eps: float) -> Tensor:
    """Logits (T, V) of GPT-2's file: Conv1D is x @ W + b, query, key and value lie side by side."""
    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    dim = x.shape[1]

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt()
        return x * w[f"{name}.weight"] + w[f"{name}.bias"]

    def conv1d(x: Tensor, name: str) -> Tensor:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    layer = 0
    while f"h.{layer}.ln_1.weight" in w:
        h = f"h.{layer}"
        qkv = conv1d(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn")
        q, k, v = (heads(qkv[:, i * dim : (i + 1) * dim], n_heads) for i in range(3))
        x = x + conv1d(causal(q, k, v), f"{h}.attn.c_proj")
        up = conv1d(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")
        gelu = 0.5 * up * (1 + torch.tanh(math.sqrt(2 / math.pi) * (up + 0.044715 * up**3)))
        x = x + conv1d(gelu, f"{h}.mlp.c_proj")
        layer += 1
    return norm(x, "ln_f") @ w.get("lm_head.weight", w["wte.weight"]).T


def gguf_logits(w: dict[str, Tensor], ids: list[int], fields: dict[str, Any]) -> Tensor:
    """Logits (T, V) of a GGUF Llama: neighbouring pairs of a head are one complex number each, and turn."""
    n_heads, n_kv = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
    eps, theta = fields["llama.attention.layer_norm_rms_epsilon"], fields["llama.rope.freq_base"]

    def norm(x: Tensor, name: str) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * w[f"{name}.weight"]

    def turn(x: Tensor) -> Tensor:
        n, t, d = x.shape
        pairs = torch.view_as_complex(x.reshape(n, t, d // 2, 2).contiguous())  # x[2i] + x[2i+1] i
        angle = torch.arange(t)[:, None] * theta ** (-torch.arange(0, d, 2) / d)
        return torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle)).reshape(n, t, d)

    def swiglu(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        return (torch.nn.functional.silu(x @ gate.T) * (x @ up.T)) @ down.T

    x = w["token_embd.weight"][ids]
    for layer in range(fields["llama.block_count"]):
        b = f"blk.{layer}"
        h = norm(x, f"{b}.attn_norm")
        q = turn(heads(h @ w[f"{b}.attn_q.weight"].T, n_heads))
        k = turn(heads(h @ w[f"{b}.attn_k.weight"].T, n_kv)).repeat_interleave(n_heads // n_kv, 0)
        v = heads(h @ w[f"{b}.attn_v.weight"].T, n_kv).repeat_interleave(n_heads // n_kv, 0)
        x = x + causal(q, k, v) @ w[f"{b}.attn_output.weight"].T
        h = norm(x, f"{b}.ffn_norm")
        if "llama.expert_count" in fields:
            gates, ups, downs = (w[f"{b}.ffn_{part}_exps.weight"] for part in ("gate", "up", "down"))
            share = (h @ w[f"{b}.ffn_gate_inp.weight"].T).softmax(-1)  # (T, E)
            for t in range(len(ids)):
                best = share[t].topk(fields["llama.expert_used_count"]).indices.tolist()
                for e in best:
                    x[t] += share[t, e] / share[t, best].sum() * swiglu(h[t], gates[e], ups[e], downs[e])
        else:
            x = x + swiglu(h, *(w[f"{b}.ffn_{part}.weight"] for part in ("gate", "up", "down")))
    return norm(x, "output_norm") @ w.get("output.weight", w["token_embd.weight"]).T

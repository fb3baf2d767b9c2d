"""The transformer's forward pass in NumPy, one sequence at a time, with a cache of keys and values.

Shapes: T queries, S keys, C dim, H heads, G kv heads, D head dim, V vocab. No mixture of experts.
"""

from pathlib import Path
from typing import Any

import numpy as np

from .weights import Arrays, read_checkpoint

CHOICES = {
    "norm": ("rmsnorm", "layernorm"),
    "activation": ("swiglu", "gelu", "relu2"),
    "position": ("rope", "learned"),
    "norm_gain": (True,),
    "token_shift": (False,),
    "value_residual": (False,),
    "bigram_rows": (0,),
}


class Cache:
    """Keys and values of the positions already seen, (L, G, max_seq_len, D) each."""

    def __init__(self, architecture: dict[str, Any]) -> None:
        a = architecture
        shape = (a["n_layers"], a["n_kv_heads"], a["max_seq_len"], a["dim"] // a["n_heads"])
        self.keys = np.zeros(shape, np.float32)
        self.values = np.zeros(shape, np.float32)
        self.length = 0


class Model:
    """A checkpoint's transformer."""

    def __init__(self, architecture: dict[str, Any], tensors: Arrays) -> None:
        if architecture.get("n_experts"):
            raise ValueError(
                f"n_experts: {architecture['n_experts']}; the enclave's guest runs no mixture of experts, "
                "package a dense checkpoint"
            )
        for key, known in CHOICES.items():
            if architecture[key] not in known:
                raise ValueError(
                    f"{key}: got {architecture[key]!r}; the guest knows {', '.join(map(str, known))}"
                )
        self.architecture, self.tensors = architecture, tensors
        self.head_dim = architecture["dim"] // architecture["n_heads"]
        self.has_rope = architecture["position"] == "rope"
        exponent = np.arange(0, self.head_dim, 2, dtype=np.float64) / self.head_dim  # (D/2,)
        positions = np.arange(architecture["max_seq_len"], dtype=np.float64)
        angle = np.outer(positions, architecture["rope_theta"] ** -exponent)  # (max_seq_len, D/2)
        self.cos, self.sin = np.cos(angle, dtype=np.float32), np.sin(angle, dtype=np.float32)
        if architecture["tie_embeddings"]:
            tensors["lm_head.weight"] = tensors["embed.weight"]

    def logits(self, token_ids: list[int], cache: Cache) -> np.ndarray:
        """Return logits (T, V) of token_ids that follow what the cache holds."""
        return self._project(self._hidden(token_ids, cache))

    def last_logits(self, token_ids: list[int], cache: Cache) -> np.ndarray:
        """Return the last token's logits (V,)."""
        return self._project(self._hidden(token_ids, cache)[-1:])[0]

    def _hidden(self, token_ids: list[int], cache: Cache) -> np.ndarray:
        """Return the residual stream after the final norm, (T, C)."""
        start, end = cache.length, cache.length + len(token_ids)
        if end > self.architecture["max_seq_len"]:
            raise ValueError(f"{end} tokens do not fit max_seq_len {self.architecture['max_seq_len']}")
        x = self.tensors["embed.weight"][token_ids]  # (T, C)
        if not self.has_rope:
            x = x + self.tensors["position.weight"][start:end]
        for layer in range(self.architecture["n_layers"]):
            block = f"blocks.{layer}"
            x = x + self._attention(self._norm(x, f"{block}.attention_norm"), layer, cache)
            x = x + self._feed_forward(self._norm(x, f"{block}.ffn_norm"), f"{block}.feed_forward")
        cache.length = end
        return self._norm(x, "final_norm")

    def _project(self, x: np.ndarray) -> np.ndarray:
        logits = x @ self.tensors["lm_head.weight"].T  # (T, V)
        cap = self.architecture["logit_softcap"]
        return cap * np.tanh(logits / cap) if cap else logits

    def _linear(self, x: np.ndarray, name: str) -> np.ndarray:
        y = x @ self.tensors[f"{name}.weight"].T
        bias = self.tensors.get(f"{name}.bias")
        return y if bias is None else y + bias

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        weight, bias = self.tensors[f"{name}.weight"], self.tensors.get(f"{name}.bias")
        if self.architecture["norm"] == "rmsnorm":
            return self._rms_norm(x, weight)
        x = x - x.mean(axis=-1, keepdims=True)
        y = self._rms_norm(x, weight)
        return y if bias is None else y + bias

    def _rms_norm(self, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
        mean_square = np.mean(x * x, axis=-1, keepdims=True)
        return x / np.sqrt(mean_square + np.float32(self.architecture["norm_eps"])) * weight

    def _rotate(self, x: np.ndarray, start: int) -> np.ndarray:
        """Turn x (T, H, D) by its positions; pair i is (x[i], x[i + D/2])."""
        cos = self.cos[start : start + len(x), None]  # (T, 1, D/2)
        sin = self.sin[start : start + len(x), None]
        first, second = np.split(x, 2, axis=-1)
        return np.concatenate((first * cos - second * sin, second * cos + first * sin), axis=-1)

    def _attention(self, x: np.ndarray, layer: int, cache: Cache) -> np.ndarray:
        """Attend over x (T, C) and the cached positions; returns (T, C)."""
        name, t, d = f"blocks.{layer}.attention", len(x), self.head_dim
        q, k, v = (self._linear(x, f"{name}.{p}_proj").reshape(t, -1, d) for p in "qkv")  # (T, H|G, D)
        if self.architecture["qk_norm"]:
            q = self._rms_norm(q, self.tensors[f"{name}.q_norm.weight"])
            k = self._rms_norm(k, self.tensors[f"{name}.k_norm.weight"])
        start, end = cache.length, cache.length + t
        if self.has_rope:
            q, k = self._rotate(q, start), self._rotate(k, start)
        cache.keys[layer, :, start:end] = k.transpose(1, 0, 2)
        cache.values[layer, :, start:end] = v.transpose(1, 0, 2)
        keys, values = cache.keys[layer, :, :end], cache.values[layer, :, :end]  # (G, S, D)
        groups = len(keys)
        grouped = q.reshape(t, groups, -1, d).transpose(1, 2, 0, 3)  # (G, H/G, T, D)
        scores = grouped @ keys[:, None].transpose(0, 1, 3, 2) / np.float32(np.sqrt(d))  # (G, H/G, T, S)
        is_future = np.arange(end) > np.arange(start, end)[:, None]  # (T, S)
        scores = np.where(is_future, np.float32(-np.inf), scores)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        out = (weights @ values[:, None]).transpose(2, 0, 1, 3).reshape(t, -1)  # (T, C)
        return self._linear(out, f"{name}.o_proj")

    def _feed_forward(self, x: np.ndarray, name: str) -> np.ndarray:
        """Map x (T, C) to (T, C)."""
        up = self._linear(x, f"{name}.up_proj")  # (T, F)
        activation = self.architecture["activation"]
        if activation == "swiglu":
            gate = self._linear(x, f"{name}.gate_proj")
            hidden = gate * 0.5 * (1 + np.tanh(gate * 0.5)) * up  # silu, in a form that never overflows
        elif activation == "gelu":
            inner = np.float32(np.sqrt(2 / np.pi)) * (up + np.float32(0.044715) * up**3)
            hidden = 0.5 * up * (1 + np.tanh(inner))
        else:
            hidden = np.maximum(up, 0) ** 2
        return self._linear(hidden.astype(np.float32), f"{name}.down_proj")


def open_model(folder: Path) -> tuple[Model, dict[str, Any]]:
    """Return the model of a verified checkpoint folder and its config.json."""
    config, tensors = read_checkpoint(folder)
    return Model(config["architecture"], tensors), config

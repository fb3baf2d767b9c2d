"""Which models int4_decode.c can take tokens through, and that pass as the model's `decoder`.

A Llama shape: RMSNorm, rotary positions, SwiGLU, no biases, nothing mixed between tokens or blocks but by
attention. Embedding, final norm and head stay the model's own.
"""

import torch
from torch import Tensor, nn

from gpt.kernels.int4_cpu import CpuWeights
from gpt.kernels.int4_decode import BlockWeights, DecodeStack
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import Cache, KVCache
from gpt.model.transformer import Transformer

PLACES = (
    ("attention", "q_proj"),
    ("attention", "k_proj"),
    ("attention", "v_proj"),
    ("attention", "o_proj"),
    ("feed_forward", "gate_proj"),
    ("feed_forward", "up_proj"),
    ("feed_forward", "down_proj"),
)
"""Of a block, in the order of int4_decode.MATRICES."""


def is_llama_shaped(config: ModelConfig) -> bool:
    """Whether a model of this architecture is what int4_decode.c computes."""
    odd = (
        config.bias,
        config.token_shift,
        config.value_residual,
        config.n_experts,
        config.fused_kernels,
    )
    shape = (config.norm, config.activation, config.position)
    return (
        shape == ("rmsnorm", "swiglu", "rope")
        and not any(odd)
        and DecodeStack.fits(config.dim, config.head_dim, config.ffn_dim)
    )


class CpuDecoder:
    """The blocks of one model."""

    def __init__(self, model: Transformer) -> None:
        """Take the weights of the model's linears, which all must be `.weights` of the c backend."""
        config = self.config = model.config
        assert is_llama_shaped(config)
        self.places: list[tuple[dict[str, nn.Module | None], str, nn.Module]] = []
        """What stands where, to see that nobody has put anything else there since, as an adapter does."""
        blocks = []
        for block in model.blocks:
            linears = []
            for owner, name in PLACES:
                module = block.get_submodule(owner)
                linears.append(module.get_submodule(name))
                self.places.append((module._modules, name, linears[-1]))
            matrices = [linear.weights for linear in linears if isinstance(linear.weights, CpuWeights)]
            assert len(matrices) == len(PLACES)
            gains = [self._gain(block.get_submodule(name)) for name in ("attention_norm", "ffn_norm")]
            if config.qk_norm:
                gains += [
                    self._gain(block.get_submodule(f"attention.{name}")) for name in ("q_norm", "k_norm")
                ]
            else:
                gains += [None, None]
            blocks.append(BlockWeights(matrices=tuple(matrices), gains=tuple(gains)))
        self.stack = DecodeStack(
            blocks,
            n_heads=config.n_heads,
            n_kv_heads=config.n_kv_heads,
            head_dim=config.head_dim,
            ffn_dim=config.ffn_dim,
            max_seq_len=config.max_seq_len,
            eps=config.norm_eps,
            qk_norm=config.qk_norm,
        )

    @staticmethod
    def _gain(norm: nn.Module) -> Tensor | None:
        gain = norm.weight
        return None if gain is None else gain.detach().float().contiguous()  # type: ignore[operator]

    def takes(self, x: Tensor, cache: Cache) -> bool:
        """Whether all is float32 on the CPU, no gradient is wanted, and no module has changed."""
        return (
            x.device.type == "cpu"
            and x.dtype == torch.float32
            and not torch.is_grad_enabled()
            and all(modules[name] is module for modules, name, module in self.places)
        )

    def step(self, x: Tensor, cache: Cache, rope: tuple[Tensor, Tensor] | None) -> Tensor:
        """Return x (B, T, C) behind the last block; its keys and values go into the cache.

        One token of one sequence in a KVCache takes one call; else attention is the cache's.
        """
        assert rope is not None
        cos, sin = rope  # (T, D/2)
        if x.shape[0] == x.shape[1] == 1 and type(cache) is KVCache and cache.keys.dtype == torch.float32:
            keys, values = cache.keys[:, 0], cache.values[:, 0]  # (L, S, G, D)
            return self.stack.step(x[0, 0], keys, values, cache.length, cos[0], sin[0]).view(1, 1, -1)
        sizes = x.shape[:2]

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            backend = self.config.attention_backend
            q, k, v = (t.unflatten(0, sizes) for t in (q, k, v))  # (B, T, H or G, D) each
            return cache.attend(layer, q, k, v, backend).flatten(0, 1)

        cos, sin = cos.repeat(sizes[0], 1), sin.repeat(sizes[0], 1)  # (B * T, D/2) each
        return self.stack.rows(x.flatten(0, 1), cos, sin, attend).view(x.shape)

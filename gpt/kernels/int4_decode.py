"""Tokens through the blocks of a Llama-shaped model with packed weights: int4_decode.c from Python.

It knows matrices and gains, no model: gpt/quantize/cpu_decoder.py says which model has this shape.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt.kernels.int4_cpu import LANES, CpuWeights, Matrix

GAINS = ("attention_gain", "ffn_gain", "q_gain", "k_gain")
MATRICES = ("q", "k", "v", "o", "gate", "up", "down")


class Layer(ctypes.Structure):
    """struct layer."""

    _fields_ = (
        *((name, Matrix) for name in MATRICES),
        *((name, ctypes.c_void_p) for name in GAINS),
    )


class Stack(ctypes.Structure):
    """struct stack."""

    _fields_ = (
        ("layers", ctypes.POINTER(Layer)),
        *(
            (name, ctypes.c_int64)
            for name in ("n_layers", "dim", "n_heads", "n_kv_heads", "head_dim", "ffn_dim", "max_seq_len")
        ),
        ("eps", ctypes.c_double),
        ("qk_norm", ctypes.c_int64),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockWeights:
    """One block."""

    matrices: tuple[CpuWeights, ...]
    """In the order of MATRICES."""
    gains: tuple[Tensor | None, ...]
    """In the order of GAINS, float32 (C,) and (D,); None where a norm has none."""


class DecodeStack:
    """All blocks; shapes that are no multiple of a register's lanes are refused by `fits`."""

    def __init__(
        self,
        blocks: Sequence[BlockWeights],
        *,
        n_heads: int,
        n_kv_heads: int,
        head_dim: int,
        ffn_dim: int,
        max_seq_len: int,
        eps: float,
        qk_norm: bool,
    ) -> None:
        dim = n_heads * head_dim
        assert self.fits(dim, head_dim, ffn_dim), (dim, head_dim, ffn_dim)
        self.blocks = tuple(blocks)  # keeps what the structures below point to
        self.layers = (Layer * len(blocks))()
        for layer, block in zip(self.layers, blocks, strict=True):
            for name, weights in zip(MATRICES, block.matrices, strict=True):
                setattr(layer, name, weights.matrix)
            for name, gain in zip(GAINS, block.gains, strict=True):
                assert gain is None or (gain.dtype == torch.float32 and gain.is_contiguous()), name
                setattr(layer, name, None if gain is None else gain.data_ptr())
        sizes = (len(blocks), dim, n_heads, n_kv_heads, head_dim, ffn_dim, max_seq_len)
        self.stack = Stack(self.layers, *sizes, eps, qk_norm)
        self.library = blocks[0].matrices[0].library
        for name in ("own_floats", "shared_floats", "part_floats"):
            getattr(self.library, name).restype = ctypes.c_int64
        self.own = self.library.own_floats(ctypes.byref(self.stack))
        self.shared = self.library.shared_floats(ctypes.byref(self.stack))

    @staticmethod
    def fits(dim: int, head_dim: int, ffn_dim: int) -> bool:
        """Whether these widths are made of whole registers."""
        return dim % LANES == 0 and head_dim % (2 * LANES) == 0 and ffn_dim % LANES == 0

    def step(
        self, x: Tensor, keys: Tensor, values: Tensor, position: int, cos: Tensor, sin: Tensor
    ) -> Tensor:
        """Return what leaves the blocks, (C,), of x (C,); write keys and values (L, S, G, D) at `position`.

        cos and sin are (D/2,). All float32; the layers of keys and of values may stand apart.
        """
        assert keys.stride() == values.stride(), (keys.stride(), values.stride())
        assert keys[0].is_contiguous(), keys.stride()
        assert position < keys.shape[1], (position, keys.shape)
        threads = torch.get_num_threads()
        x = x.clone(memory_format=torch.contiguous_format)
        scratch = torch.empty(self.shared + threads * self.own)
        self.library.decode_step(
            ctypes.byref(self.stack),
            *(ctypes.c_void_p(t.data_ptr()) for t in (x, keys, values)),
            ctypes.c_int64(keys.stride(0)),
            ctypes.c_int64(position),
            *(ctypes.c_void_p(t.data_ptr()) for t in (cos, sin, scratch)),
            ctypes.c_int64(threads),
        )
        return x

    def rows(
        self, x: Tensor, cos: Tensor, sin: Tensor, attend: Callable[[int, Tensor, Tensor, Tensor], Tensor]
    ) -> Tensor:
        """Return what leaves the blocks, (N, C), of x (N, C), with cos and sin (N, D/2); all float32.

        `attend` maps a layer and its q (N, H, D), k and v (N, G, D) to what q sees, (N, H, D).
        """
        stack, threads, n = self.stack, torch.get_num_threads(), len(x)
        x = x.clone(memory_format=torch.contiguous_format)
        cos, sin = cos.contiguous(), sin.contiguous()
        assert cos.shape == (n, stack.head_dim // 2), (cos.shape, n)
        size = self.library.part_floats(ctypes.byref(stack), ctypes.c_int64(n), ctypes.c_int64(threads))
        scratch = torch.empty(size)
        place, n_rows, n_threads = ctypes.byref(stack), ctypes.c_int64(n), ctypes.c_int64(threads)
        for layer in range(stack.n_layers):
            q = torch.empty(n, stack.n_heads, stack.head_dim)
            k, v = (torch.empty(n, stack.n_kv_heads, stack.head_dim) for _ in range(2))
            tensors = (ctypes.c_void_p(t.data_ptr()) for t in (x, cos, sin, q, k, v, scratch))
            self.library.before_attention(place, ctypes.c_int64(layer), n_rows, *tensors, n_threads)
            seen = attend(layer, q, k, v).contiguous()  # (N, H, D)
            tensors = (ctypes.c_void_p(t.data_ptr()) for t in (x, seen, scratch))
            self.library.behind_attention(place, ctypes.c_int64(layer), n_rows, *tensors, n_threads)
        return x

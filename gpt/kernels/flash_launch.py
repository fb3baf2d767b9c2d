"""How FlashAttention's kernels are started: block sizes, tensor descriptors; tuning.py chooses."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from gpt.kernels.flash_backward import keys_kernel, queries_kernel
from gpt.kernels.flash_forward import forward_kernel
from gpt.kernels.flash_scores import score_factors
from gpt.kernels.tuning import INTERPRETED, tuned

Side = Literal["queries", "keys"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Blocks:
    """How one program of a kernel is cut."""

    queries: int
    """Rows of q in a tile."""
    keys: int
    """Rows of k and v in a tile."""
    warps: int = 4
    stages: int = 2
    """Tiles in flight between global and shared memory."""


def blocks(*sizes: tuple[int, int, int, int]) -> tuple[Blocks, ...]:
    """Return the entries of a list of (queries, keys, warps, stages)."""
    return tuple(Blocks(queries=q, keys=k, warps=w, stages=s) for q, k, w, s in sizes)


FIXED = Blocks(queries=32, keys=16)
"""The interpreter's."""
FULL_PRECISION = blocks((16, 16, 4, 1))
"""float32 runs on no tensor core: small tiles, for tests rather than for speed."""
CHOICES: dict[str, tuple[Blocks, ...]] = {
    "forward_kernel": blocks(
        (128, 64, 8, 3), (128, 128, 8, 2), (128, 128, 8, 3), (128, 64, 4, 3), (64, 64, 4, 3), (64, 32, 4, 3)
    ),
    "queries_kernel": blocks(
        (128, 64, 8, 2), (128, 64, 8, 3), (128, 128, 8, 2), (64, 64, 4, 2), (64, 64, 4, 3), (64, 32, 4, 3)
    ),
    "keys_kernel": blocks(
        (64, 128, 8, 2), (64, 128, 8, 3), (32, 128, 8, 2), (32, 128, 8, 3), (64, 64, 4, 2), (32, 64, 4, 2)
    ),
}
"""The first entry of each list is the one of deterministic runs where it fits the device's shared memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """What the kernels of one call have in common."""

    shape: tuple[int, int, int, int, int, int]
    """B, T, S, H, G, D."""
    dtype: torch.dtype
    spans: tuple[Tensor, Tensor] | None
    """Of documents, as document_spans returns them."""
    causal: bool
    softcap: float
    """c in c * tanh(scores / c); 0 turns it off."""


def launch(
    kernel: Any,
    tiled: list[tuple[Tensor, Side]],
    vectors: list[Tensor],
    problem: Problem,
    *,
    side: Side,
    scale: bool,
) -> None:
    """Run a kernel over the blocks of `side`; tiled are (B, rows, heads, D), vectors what it takes next."""
    batch, n_queries, n_keys, n_heads, n_kv_heads, head_dim = problem.shape
    block_dim = max(16, triton.next_power_of_2(head_dim))
    factors = score_factors(head_dim, problem.softcap) + ((head_dim**-0.5,) if scale else ())
    rows, heads = (n_queries, n_heads) if side == "queries" else (n_keys, n_kv_heads)

    def run(choice: Blocks) -> None:
        size: dict[Side, int] = {"queries": choice.queries, "keys": choice.keys}
        kernel[(triton.cdiv(rows, size[side]), batch * heads)](
            *(descriptor(tensor, size[of], block_dim) for tensor, of in tiled),
            *vectors,
            *(problem.spans or (None, None)),
            n_queries,
            n_keys,
            n_heads,
            *factors,
            GROUP=n_heads // n_kv_heads,
            HEAD_DIM=block_dim,
            BLOCK_Q=choice.queries,
            BLOCK_K=choice.keys,
            CAUSAL=problem.causal,
            DOCUMENTS=problem.spans is not None,
            SOFTCAP=problem.softcap > 0,
            UPCAST=INTERPRETED and problem.dtype == torch.bfloat16,  # its bfloat16 is uint16 to NumPy
            num_warps=choice.warps,
            num_stages=choice.stages,
        )

    lengths = (triton.next_power_of_2(n_queries), triton.next_power_of_2(n_keys))
    flags = (problem.causal, problem.spans is not None, problem.softcap > 0)
    name = kernel.__name__
    tuned(
        run,
        key=(name, block_dim, problem.dtype, *lengths, n_heads // n_kv_heads, *flags),
        choices=FULL_PRECISION if problem.dtype == torch.float32 else CHOICES[name],
        fixed=FIXED,
        like=tiled[0][0],
        dial="attention_backend: flash",
        instead="choose sdpa",
    )


def descriptor(tensor: Tensor, block_rows: int, block_dim: int) -> TensorDescriptor:
    """Describe (B, rows, heads, D) for the copy engine, one tile of one head at a time."""
    return TensorDescriptor.from_tensor(tensor.transpose(1, 2), [1, 1, block_rows, block_dim])


def forward(q: Tensor, k: Tensor, v: Tensor, problem: Problem) -> tuple[Tensor, Tensor]:
    """Return out (B, T, H, D) and lse (B, H, T), in units of log2."""
    batch, n_queries, n_heads, _ = q.shape
    out = torch.empty_like(q, memory_format=torch.contiguous_format)  # (B, T, H, D)
    lse = q.new_empty(batch, n_heads, n_queries, dtype=torch.float32)
    tiled: list[tuple[Tensor, Side]] = [(q, "queries"), (k, "keys"), (v, "keys"), (out, "queries")]
    launch(forward_kernel, tiled, [lse], problem, side="queries", scale=False)
    return out, lse


def backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, problem: Problem
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of q, k and v from that of out, all as the tensors themselves."""
    dq, dk, dv = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q, k, v))
    delta = torch.empty_like(lse)  # (B, H, T)
    tiled: list[tuple[Tensor, Side]] = [(q, "queries"), (k, "keys"), (v, "keys")]
    by_queries: list[tuple[Tensor, Side]] = [(out, "queries"), (dout, "queries"), (dq, "queries")]
    by_keys: list[tuple[Tensor, Side]] = [(dout, "queries"), (dk, "keys"), (dv, "keys")]
    launch(queries_kernel, tiled + by_queries, [lse, delta], problem, side="queries", scale=True)
    launch(keys_kernel, tiled + by_keys, [lse, delta], problem, side="keys", scale=True)
    return dq, dk, dv

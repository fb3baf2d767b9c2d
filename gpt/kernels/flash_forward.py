"""FlashAttention-2, forward (Dao 2023, algorithm 1), in Triton: a softmax over keys as they go by.

One program holds a block of queries of one head and walks over the keys that they see. Beside the output it
stores lse = log2(sum of 2^score) of each row, from which the backward makes the probabilities again. Scores
are in units of log2(e), so that every exponential is a power of 2.
"""

import triton
import triton.language as tl

from gpt.kernels.flash_scores import MASKED, bounded, keys_seen, tile


@triton.jit
def attend(
    state: tl.tuple,
    q: tl.tensor,
    source: tl.tuple,
    begin: int,
    end: int,
    seen: tl.tuple,
    factors: tl.tuple,
    BLOCK_K: tl.constexpr,
    MASK: tl.constexpr,
    SOFTCAP: tl.constexpr,
    UPCAST: tl.constexpr,
) -> tl.tuple:
    """Return (out (Q, D), top (Q,), total (Q,)) after the keys begin..end-1 as well."""
    out, top, total = state
    k_source, v_source, batch, kv_head = source
    inner, outer = factors
    for column in tl.range(begin, end, BLOCK_K):
        k = tile(k_source, batch, kv_head, column, UPCAST)  # (K, D)
        scores = bounded(tl.dot(q, k.T, input_precision="ieee"), inner, SOFTCAP)  # (Q, K) S = Q K^T
        if MASK:
            columns = column + tl.arange(0, BLOCK_K)[None, :]
            scores = tl.where((columns >= seen[0][:, None]) & (columns < seen[1][:, None]), scores, MASKED)
        new_top = tl.maximum(top, tl.max(scores, 1) * outer)  # (Q,) m = max(m_old, rowmax(S))
        p = tl.exp2(scores * outer - new_top[:, None])  # (Q, K) P = exp(S - m)
        shrink = tl.exp2(top - new_top)  # (Q,) exp(m_old - m)
        total = total * shrink + tl.sum(p, 1)  # (Q,) l = exp(m_old - m) l_old + rowsum(P)
        v = tile(v_source, batch, kv_head, column, UPCAST)  # (K, D)
        out = out * shrink[:, None]
        out = tl.dot(p.to(v.dtype), v, out, input_precision="ieee")  # (Q, D) O = exp(m_old - m) O_old + P V
        top = new_top
    return out, top, total


@triton.jit
def forward_kernel(
    q_source: tl.tensor_descriptor,
    k_source: tl.tensor_descriptor,
    v_source: tl.tensor_descriptor,
    out_sink: tl.tensor_descriptor,
    lse: tl.tensor,
    starts: tl.tensor,
    ends: tl.tensor,
    n_queries: int,
    n_keys: int,
    n_heads: int,
    inner: float,
    outer: float,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    CAUSAL: tl.constexpr,
    DOCUMENTS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """Write out (B, H, T, D) and lse (B, H, T) on a grid (blocks of queries, B * H)."""
    row = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_Q  # the longest causal rows start first
    batch, head = tl.program_id(1) // n_heads, tl.program_id(1) % n_heads
    source = (k_source, v_source, batch, head // GROUP)  # GQA: a group of heads reads the same keys
    shape, spans, factors = (n_queries, n_keys), (starts, ends), (inner, outer)
    if DOCUMENTS:
        spans = (starts + batch * n_keys, ends + batch * n_keys)
    rows = row + tl.arange(0, BLOCK_Q)
    seen = keys_seen(rows, shape, spans, CAUSAL, DOCUMENTS)
    begin, full_end = keys_seen(row, shape, spans, CAUSAL, DOCUMENTS)
    full_begin, end = keys_seen(row + BLOCK_Q - 1, shape, spans, CAUSAL, DOCUMENTS)

    q = tile(q_source, batch, head, row, UPCAST)  # (Q, D)
    top = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    state = (tl.zeros([BLOCK_Q, HEAD_DIM], tl.float32), top, tl.zeros([BLOCK_Q], tl.float32))
    if DOCUMENTS:  # keys of documents that end within this block of queries
        middle = begin + tl.cdiv(full_begin - begin, BLOCK_K) * BLOCK_K
        state = attend(
            state, q, source, begin, tl.minimum(middle, end), seen, factors, BLOCK_K, True, SOFTCAP, UPCAST
        )
        begin = middle
    middle = begin + tl.maximum(full_end - begin, 0) // BLOCK_K * BLOCK_K
    state = attend(state, q, source, begin, middle, seen, factors, BLOCK_K, False, SOFTCAP, UPCAST)
    state = attend(state, q, source, middle, end, seen, factors, BLOCK_K, True, SOFTCAP, UPCAST)
    out, top, total = state
    out = (out / total[:, None]).to(out_sink.dtype)  # O = O / l
    out_sink.store([batch, head, row, 0], out.reshape(1, 1, BLOCK_Q, HEAD_DIM))
    tl.store(lse + tl.program_id(1) * n_queries + rows, top + tl.log2(total), mask=rows < n_queries)

"""FlashAttention-2, backward (Dao 2023, algorithm 2), in Triton: probabilities made again from lse.

Two kernels, so that every sum has one owner and no order depends on a race: the first walks over the keys of
a block of queries for dQ, the second over the queries of a block of keys, of every head of the group, for dK
and dV. The first also stores delta = rowsum(dO O), which the second reads.
"""

import triton
import triton.language as tl

from gpt.kernels.flash_scores import bounded, keys_seen, queries_seeing, tile


@triton.jit
def gradient_of_queries(
    dq: tl.tensor,
    rows: tl.tuple,
    source: tl.tuple,
    begin: int,
    end: int,
    seen: tl.tuple,
    factors: tl.tuple,
    BLOCK_K: tl.constexpr,
    MASK: tl.constexpr,
    SOFTCAP: tl.constexpr,
    UPCAST: tl.constexpr,
) -> tl.tensor:
    """Return dq (Q, D) with what the keys begin..end-1 add."""
    q, dout, lse, delta = rows
    k_source, v_source, batch, kv_head = source
    inner, outer = factors
    for column in tl.range(begin, end, BLOCK_K):
        k = tile(k_source, batch, kv_head, column, UPCAST)  # (K, D)
        v = tile(v_source, batch, kv_head, column, UPCAST)  # (K, D)
        scores = bounded(tl.dot(q, k.T, input_precision="ieee"), inner, SOFTCAP)  # (Q, K) S = Q K^T
        p = tl.exp2(scores * outer - lse[:, None])  # (Q, K) P = exp(S - L)
        dp = tl.dot(dout, v.T, input_precision="ieee")  # (Q, K) dP = dO V^T
        ds = p * (dp - delta[:, None])  # (Q, K) dS = P (dP - D)
        if SOFTCAP:
            ds = ds * (1.0 - scores * scores)  # tanh' = 1 - tanh^2
        if MASK:
            columns = column + tl.arange(0, BLOCK_K)[None, :]
            ds = tl.where((columns >= seen[0][:, None]) & (columns < seen[1][:, None]), ds, 0.0)
        dq = tl.dot(ds.to(k.dtype), k, dq, input_precision="ieee")  # (Q, D) dQ = dQ + dS K
    return dq


@triton.jit
def queries_kernel(
    q_source: tl.tensor_descriptor,
    k_source: tl.tensor_descriptor,
    v_source: tl.tensor_descriptor,
    out_source: tl.tensor_descriptor,
    dout_source: tl.tensor_descriptor,
    dq_sink: tl.tensor_descriptor,
    lse: tl.tensor,
    delta: tl.tensor,
    starts: tl.tensor,
    ends: tl.tensor,
    n_queries: int,
    n_keys: int,
    n_heads: int,
    inner: float,
    outer: float,
    scale: float,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    CAUSAL: tl.constexpr,
    DOCUMENTS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """Write dq (B, H, T, D) and delta (B, H, T) on a grid (blocks of queries, B * H)."""
    row = (tl.num_programs(0) - 1 - tl.program_id(0)) * BLOCK_Q
    batch, head = tl.program_id(1) // n_heads, tl.program_id(1) % n_heads
    source = (k_source, v_source, batch, head // GROUP)
    shape, spans, factors = (n_queries, n_keys), (starts, ends), (inner, outer)
    if DOCUMENTS:
        spans = (starts + batch * n_keys, ends + batch * n_keys)
    rows = row + tl.arange(0, BLOCK_Q)
    seen = keys_seen(rows, shape, spans, CAUSAL, DOCUMENTS)
    begin, full_end = keys_seen(row, shape, spans, CAUSAL, DOCUMENTS)
    full_begin, end = keys_seen(row + BLOCK_Q - 1, shape, spans, CAUSAL, DOCUMENTS)

    dout = tile(dout_source, batch, head, row, UPCAST)  # (Q, D)
    out = tile(out_source, batch, head, row, UPCAST)  # (Q, D)
    row_delta = tl.sum(out.to(tl.float32) * dout.to(tl.float32), 1)  # (Q,) D = rowsum(dO O)
    at = tl.program_id(1) * n_queries + rows
    tl.store(delta + at, row_delta, mask=rows < n_queries)
    row_lse = tl.load(lse + at, mask=rows < n_queries, other=0.0)
    given = (tile(q_source, batch, head, row, UPCAST), dout, row_lse, row_delta)
    dq = tl.zeros([BLOCK_Q, HEAD_DIM], tl.float32)
    if DOCUMENTS:
        middle = begin + tl.cdiv(full_begin - begin, BLOCK_K) * BLOCK_K
        stop = tl.minimum(middle, end)
        dq = gradient_of_queries(
            dq, given, source, begin, stop, seen, factors, BLOCK_K, True, SOFTCAP, UPCAST
        )
        begin = middle
    middle = begin + tl.maximum(full_end - begin, 0) // BLOCK_K * BLOCK_K
    dq = gradient_of_queries(dq, given, source, begin, middle, seen, factors, BLOCK_K, False, SOFTCAP, UPCAST)
    dq = gradient_of_queries(dq, given, source, middle, end, seen, factors, BLOCK_K, True, SOFTCAP, UPCAST)
    dq_sink.store([batch, head, row, 0], (dq * scale).to(dq_sink.dtype).reshape(1, 1, BLOCK_Q, HEAD_DIM))


@triton.jit
def gradient_of_keys(
    state: tl.tuple,
    columns: tl.tuple,
    source: tl.tuple,
    begin: int,
    end: int,
    seeing: tl.tuple,
    factors: tl.tuple,
    BLOCK_Q: tl.constexpr,
    MASK: tl.constexpr,
    SOFTCAP: tl.constexpr,
    UPCAST: tl.constexpr,
) -> tl.tuple:
    """Return dk and dv (K, D) with what the queries begin..end-1 of one head add; all transposed."""
    dk, dv = state
    k, v = columns
    q_source, dout_source, lse, delta, n_queries, batch, head = source
    inner, outer = factors
    for row in tl.range(begin, end, BLOCK_Q):
        rows = row + tl.arange(0, BLOCK_Q)
        row_lse = tl.load(lse + rows, mask=rows < n_queries, other=float("inf"))  # past the end P is 0
        row_delta = tl.load(delta + rows, mask=rows < n_queries, other=0.0)
        q = tile(q_source, batch, head, row, UPCAST)  # (Q, D)
        scores = bounded(tl.dot(k, q.T, input_precision="ieee"), inner, SOFTCAP)  # (K, Q) S^T = K Q^T
        p = tl.exp2(scores * outer - row_lse[None, :])  # (K, Q) P^T
        if MASK:
            p = tl.where((rows[None, :] >= seeing[0][:, None]) & (rows[None, :] < seeing[1][:, None]), p, 0.0)
        dout = tile(dout_source, batch, head, row, UPCAST)  # (Q, D)
        dv = tl.dot(p.to(dout.dtype), dout, dv, input_precision="ieee")  # (K, D) dV = dV + P^T dO
        dp = tl.dot(v, dout.T, input_precision="ieee")  # (K, Q) dP^T = V dO^T
        ds = p * (dp - row_delta[None, :])  # (K, Q) dS^T
        if SOFTCAP:
            ds = ds * (1.0 - scores * scores)
        dk = tl.dot(ds.to(q.dtype), q, dk, input_precision="ieee")  # (K, D) dK = dK + dS^T Q
    return dk, dv


@triton.jit
def keys_kernel(
    q_source: tl.tensor_descriptor,
    k_source: tl.tensor_descriptor,
    v_source: tl.tensor_descriptor,
    dout_source: tl.tensor_descriptor,
    dk_sink: tl.tensor_descriptor,
    dv_sink: tl.tensor_descriptor,
    lse: tl.tensor,
    delta: tl.tensor,
    starts: tl.tensor,
    ends: tl.tensor,
    n_queries: int,
    n_keys: int,
    n_heads: int,
    inner: float,
    outer: float,
    scale: float,
    GROUP: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    CAUSAL: tl.constexpr,
    DOCUMENTS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    UPCAST: tl.constexpr,
) -> None:
    """Write dk and dv (B, G, S, D) on a grid (blocks of keys, B * G)."""
    column = tl.program_id(0) * BLOCK_K  # causal: the first keys are seen by the most queries
    n_kv_heads = n_heads // GROUP
    batch, kv_head = tl.program_id(1) // n_kv_heads, tl.program_id(1) % n_kv_heads
    shape, spans, factors = (n_queries, n_keys), (starts, ends), (inner, outer)
    if DOCUMENTS:
        spans = (starts + batch * n_keys, ends + batch * n_keys)
    seeing = queries_seeing(column + tl.arange(0, BLOCK_K), shape, spans, CAUSAL, DOCUMENTS)
    begin, full_end = queries_seeing(column, shape, spans, CAUSAL, DOCUMENTS)
    full_begin, end = queries_seeing(column + BLOCK_K - 1, shape, spans, CAUSAL, DOCUMENTS)
    middle = begin + tl.cdiv(full_begin - begin, BLOCK_Q) * BLOCK_Q
    full_end = middle + tl.maximum(full_end - middle, 0) // BLOCK_Q * BLOCK_Q if DOCUMENTS else end

    k = tile(k_source, batch, kv_head, column, UPCAST)  # (K, D)
    v = tile(v_source, batch, kv_head, column, UPCAST)  # (K, D)
    state = (tl.zeros([BLOCK_K, HEAD_DIM], tl.float32), tl.zeros([BLOCK_K, HEAD_DIM], tl.float32))
    for head in tl.range(kv_head * GROUP, (kv_head + 1) * GROUP):
        skip = (batch * n_heads + head) * n_queries
        source = (q_source, dout_source, lse + skip, delta + skip, n_queries, batch, head)
        stop = tl.minimum(middle, end)
        if CAUSAL or DOCUMENTS:  # queries that only some keys of the block are early enough for
            state = gradient_of_keys(
                state, (k, v), source, begin, stop, seeing, factors, BLOCK_Q, True, SOFTCAP, UPCAST
            )
        state = gradient_of_keys(
            state, (k, v), source, middle, full_end, seeing, factors, BLOCK_Q, False, SOFTCAP, UPCAST
        )
        if DOCUMENTS:  # queries behind the end of a document within this block of keys
            state = gradient_of_keys(
                state, (k, v), source, full_end, end, seeing, factors, BLOCK_Q, True, SOFTCAP, UPCAST
            )
    dk, dv = state
    dk = (dk * scale).to(dk_sink.dtype).reshape(1, 1, BLOCK_K, HEAD_DIM)
    dv = dv.to(dv_sink.dtype).reshape(1, 1, BLOCK_K, HEAD_DIM)
    dk_sink.store([batch, kv_head, column, 0], dk)
    dv_sink.store([batch, kv_head, column, 0], dv)

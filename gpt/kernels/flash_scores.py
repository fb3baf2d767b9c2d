"""What FlashAttention's kernels share: who sees whom, and what a product q·k becomes.

Who sees whom is an interval: a query sees the keys [first, last), a key is seen by the queries [first, last),
and neither bound falls from one row to the next. So a block of rows needs the columns from its first row's
`first` to its last row's `last`, and from its last row's `first` to its first row's `last` every row sees
every column: no mask is computed there. The T queries are the last T of the S positions.

Not here: documents that are not contiguous runs; they make no intervals.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

LOG2_E = 1.4426950408889634
"""A GPU computes powers of 2: exp(x) = 2^(x LOG2_E), and the factor goes into the scale of the scores."""
MASKED = tl.constexpr(-1.0e30)
"""The score of what is not seen. Finite: a row that has seen nothing yet must not make inf - inf."""


def document_spans(document_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each position's document starts, and where the next one does: two (B, S) int32.

    document_ids (B, S) are integers; a document is a run of equal ones.
    """
    n_keys = document_ids.shape[1]
    index = torch.arange(n_keys, device=document_ids.device).expand_as(document_ids)  # (B, S)
    changes = document_ids[:, 1:] != document_ids[:, :-1]  # (B, S - 1)
    edge = torch.ones_like(document_ids[:, :1], dtype=torch.bool)  # (B, 1)
    is_first, is_last = torch.cat((edge, changes), 1), torch.cat((changes, edge), 1)  # (B, S)
    starts = torch.where(is_first, index, 0).cummax(1).values
    ends = torch.where(is_last, index + 1, n_keys).flip(1).cummin(1).values.flip(1)
    return starts.int(), ends.int()


def score_factors(head_dim: int, softcap: float) -> tuple[float, float]:
    """Return (inner, outer): log2(e) times the score is outer * bounded(q·k, inner)."""
    scale = head_dim**-0.5
    return (2 * LOG2_E * scale / softcap, LOG2_E * softcap) if softcap else (0.0, LOG2_E * scale)


@triton.jit
def bounded(products: tl.tensor, inner: float, SOFTCAP: tl.constexpr) -> tl.tensor:
    """Return tanh(q·k scale / cap), whose power of 2 may overflow or vanish; without a cap, q·k."""
    return 1.0 - 2.0 / (tl.exp2(products * inner) + 1.0) if SOFTCAP else products


@triton.jit
def keys_seen(
    rows: tl.tensor,
    shape: tl.tuple,
    spans: tl.tuple,
    CAUSAL: tl.constexpr,
    DOCUMENTS: tl.constexpr,
) -> tl.tuple:
    """Return the keys [first, last) that query rows see; a row past the end counts as the last one."""
    n_queries, n_keys = shape
    position = tl.minimum(rows, n_queries - 1) + (n_keys - n_queries)
    first, last = position * 0, position * 0 + n_keys
    if DOCUMENTS:
        first, last = tl.load(spans[0] + position), tl.load(spans[1] + position)
    if CAUSAL:
        last = position + 1
    return first, last


@triton.jit
def queries_seeing(
    rows: tl.tensor,
    shape: tl.tuple,
    spans: tl.tuple,
    CAUSAL: tl.constexpr,
    DOCUMENTS: tl.constexpr,
) -> tl.tuple:
    """Return the queries [first, last) that see key rows; a row past the end counts as the last one."""
    n_queries, n_keys = shape
    position = tl.minimum(rows, n_keys - 1)
    first, last = position * 0, position * 0 + n_keys
    if DOCUMENTS:
        first, last = tl.load(spans[0] + position), tl.load(spans[1] + position)
    if CAUSAL:
        first = position
    prefix = n_keys - n_queries
    return tl.maximum(first - prefix, 0), tl.maximum(last - prefix, 0)


@triton.jit
def tile(source: tl.tensor_descriptor, batch: int, head: int, row: int, UPCAST: tl.constexpr) -> tl.tensor:
    """Return rows row.. of one head, (BLOCK, D); zeros where the tensor ends."""
    block = source.load([batch, head, row, 0])  # (1, 1, BLOCK, D)
    block = block.reshape(block.shape[2], block.shape[3])
    return block.to(tl.float32) if UPCAST else block

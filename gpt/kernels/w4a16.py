"""x @ W.T for a few rows of x, with W packed in 4 bits, in Triton: decoding, where reading W is the time.

    y[m, o] = sum over groups of scale[o, group] * sum in the group of (code[o, i] - 8) x[m, i]

The packed bytes of int4_packing.py are read as words of eight codes, code j of a word at bits 4j..4j+3. A
code becomes a number without a conversion: where it lies in the word it is put over the last bits of the
float 2^23, and what the eight stands for there is taken off; powers of 16 go to x or to the scale. One row
of x is multiplied and summed in registers; 2 to 16 rows go through the tensor cores, W as their left side,
since x is too thin for it. The inputs may be split over programs, whose parts are added afterwards in a
fixed order. Not here: more rows, and gradients (int4_matmul.py). The idea: Frantar et al. 2024 (Marlin).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from gpt.kernels.int4_matmul import W4A16_ROWS as MAX_ROWS
from gpt.kernels.tuning import check, tuned

CODES = 8
"""Codes of a word."""
Choice = tuple[int, int, int, int, int]
"""Outputs of a program, words of an output at a time, parts of the inputs, warps, stages."""
VECTOR: tuple[Choice, ...] = (
    (4, 256, 1, 4, 3), (8, 128, 1, 4, 3), (8, 256, 1, 8, 3), (16, 64, 1, 4, 3), (2, 512, 1, 4, 3),
    (8, 128, 2, 4, 3), (8, 128, 4, 4, 3), (16, 128, 4, 8, 3),
)  # fmt: skip
"""For one row of x."""
MATRIX: tuple[Choice, ...] = (
    (32, 64, 1, 4, 3), (32, 64, 4, 4, 3), (64, 32, 2, 4, 3), (64, 32, 8, 4, 3), (64, 64, 4, 8, 2),
    (16, 64, 2, 4, 3),
)  # fmt: skip
FIXED: Choice = (16, 16, 2, 1, 1)


@triton.jit
def code(word: tl.tensor, j: tl.constexpr) -> tl.tensor:
    """Return (code j - 8) of each word times 16^(j mod 5), in float32, exact."""
    place: tl.constexpr = 4 * (j % 5)
    if j >= 5:
        word = word >> 20
    bits = (word & (15 << place)) | 0x4B000000  # one instruction: the float 2^23 + code * 2^place
    return bits.to(tl.float32, bitcast=True) - (8388608.0 + (8 << place))


@triton.jit(do_not_specialize=["n_words"])
def vector_kernel(
    x: tl.tensor,
    words: tl.tensor,
    scales: tl.tensor,
    parts: tl.tensor,
    n_outputs: int,
    n_words: int,
    WORDS_IN_GROUP: tl.constexpr,
    OUTPUTS: tl.constexpr,
    WORDS: tl.constexpr,
    SPLIT: tl.constexpr,
) -> None:
    """Write parts (SPLIT, out) of x (in,), words (out, in/8) and scales (out, in/g).

    n_words is not specialized: that rows are aligned is kept from the compiler, which would give a thread
    four words in a row, and then move all of x and the scales through shared memory to where it put them.
    """
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)  # (O,)
    safe = tl.minimum(output, n_outputs - 1).to(tl.int64)[:, None]  # (O, 1) beyond the end the last one again
    total = tl.zeros([OUTPUTS, WORDS], tl.float32)
    for begin in tl.range(tl.program_id(1) * WORDS, n_words, SPLIT * WORDS):
        place = begin + tl.arange(0, WORDS)  # (K,)
        inside = place < n_words
        word = tl.load(words + safe * n_words + place[None, :], mask=inside[None, :], other=0)  # (O, K)
        group = safe * (n_words // WORDS_IN_GROUP) + (place // WORDS_IN_GROUP)[None, :]
        scale = tl.load(scales + group, mask=inside[None, :], other=0.0).to(tl.float32)  # (O, K)
        products = tl.zeros([OUTPUTS, WORDS], tl.float32)
        for j in tl.static_range(8):
            column = tl.load(x + place * 8 + j, mask=inside, other=0.0).to(tl.float32)  # (K,)
            products += code(word, j) * (column * (1.0 / (1 << 4 * (j % 5))))[None, :]
        total += products * scale
    sink = parts + tl.program_id(1) * n_outputs + output
    tl.store(sink, tl.sum(total, 1).to(parts.dtype.element_ty), mask=output < n_outputs)


@triton.jit
def matrix_kernel(
    x: tl.tensor,
    words: tl.tensor,
    scales: tl.tensor,
    parts: tl.tensor,
    n_rows: int,
    n_outputs: int,
    n_words: int,
    WORDS_IN_GROUP: tl.constexpr,
    OUTPUTS: tl.constexpr,
    WORDS: tl.constexpr,
    SPLIT: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """Write parts (SPLIT, M, out) of x (M, in), words (out, in/8) and scales (out, in/g); M <= ROWS."""
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)  # (O,)
    safe = tl.minimum(output, n_outputs - 1).to(tl.int64)[:, None]  # (O, 1)
    row = tl.arange(0, ROWS)[None, :]
    total = tl.zeros([OUTPUTS, ROWS], tl.float32)
    for begin in tl.range(tl.program_id(1) * WORDS, n_words, SPLIT * WORDS):
        place = begin + tl.arange(0, WORDS)  # (K,)
        inside = place < n_words
        word = tl.load(words + safe * n_words + place[None, :], mask=inside[None, :], other=0)  # (O, K)
        group = safe * (n_words // WORDS_IN_GROUP) + (place // WORDS_IN_GROUP)[None, :]
        scale = tl.load(scales + group, mask=inside[None, :], other=0.0).to(tl.float32)  # (O, K)
        for j in tl.static_range(8):
            source = x + row * (n_words * 8) + place[:, None] * 8 + j
            columns = tl.load(source, mask=inside[:, None] & (row < n_rows), other=0.0)  # (K, M)
            value = (code(word, j) * (scale * (1.0 / (1 << 4 * (j % 5))))).to(x.dtype.element_ty)  # (O, K)
            total = tl.dot(value, columns, total, input_precision="ieee")  # (O, M)
    sink = parts + (tl.program_id(1) * n_rows + row) * n_outputs + output[:, None]
    here = (row < n_rows) & (output < n_outputs)[:, None]
    tl.store(sink, total.to(parts.dtype.element_ty), mask=here)


def w4a16(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """Return (..., out) of x (..., in) with at most MAX_ROWS rows, packed (out, in/2), scales (out, in/g).

    In x's dtype, summed in float32. Raises ValueError where the kernel cannot run and for groups of another
    size than a multiple of eight.
    """
    assert x.numel() // x.shape[-1] <= MAX_ROWS, x.shape
    assert x.shape[-1] == 2 * packed.shape[1], (x.shape, packed.shape)
    return operator(x, packed, scales)


@torch.library.custom_op("rawgpt::w4a16", mutates_args=())
def operator(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    """Return (..., out)."""
    check(x, "a packed linear", "run the model on the CPU, or in bf16")
    n_outputs, n_inputs = packed.shape[0], 2 * packed.shape[1]
    group_size = n_inputs // scales.shape[1]
    if group_size % CODES:
        raise ValueError(
            f"quantization.group_size: on a GPU a multiple of {CODES} is needed, got {group_size}; "
            "quantize again with quantize.group_size 32"
        )
    rows = x.reshape(-1, n_inputs).contiguous()  # (M, in)
    n_rows = len(rows)
    words = packed.contiguous().view(torch.int32)  # (out, in/8), little-endian: byte 0 is the lowest
    out = rows.new_empty(n_rows, n_outputs)

    def run(choice: Choice) -> None:
        outputs, n_words, split, warps, stages = choice
        parts = out[None] if split == 1 else rows.new_empty(split, n_rows, n_outputs, dtype=torch.float32)
        grid, group = (triton.cdiv(n_outputs, outputs), split), group_size // CODES
        tensors, sizes = (
            (rows, words, scales, parts),
            (n_outputs, words.shape[1], group, outputs, n_words, split),
        )
        if n_rows == 1:
            vector_kernel[grid](*tensors, *sizes, num_warps=warps, num_stages=stages)
        else:
            matrix_kernel[grid](*tensors, n_rows, *sizes, MAX_ROWS, num_warps=warps, num_stages=stages)
        if split > 1:
            out.copy_(parts.sum(0))

    choices = VECTOR if n_rows == 1 else MATRIX
    key = ("w4a16", x.dtype, n_rows == 1, n_outputs, n_inputs, group_size)
    tuned(run, key=key, choices=choices, fixed=FIXED, like=x, dial="a packed linear", instead="use the CPU")
    return out.view(*x.shape[:-1], n_outputs)


@operator.register_fake
def _(x: Tensor, packed: Tensor, scales: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:-1], packed.shape[0])

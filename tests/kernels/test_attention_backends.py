"""gpt/kernels/attention_backends.py under torch.compile; tests/model has its numbers."""

import torch

from gpt.kernels.attention_backends import BACKENDS


def test_sdpa_compiled_with_sizes_that_vary() -> None:
    """Guards: is_causal as an expression of two sizes, no bool where the compiler leaves the sizes open."""
    compiled = torch.compile(BACKENDS["sdpa"], backend="eager", dynamic=True, fullgraph=True)
    for n in (6, 9):
        q, k, v = (torch.randn(2, n, heads, 8) for heads in (4, 2, 2))
        assert torch.equal(compiled(q, k, v, None), BACKENDS["sdpa"](q, k, v, None))

"""Walk a model block by block on calibration sequences: what reaches each linear, and on with the result.

Each block sees the outputs of the blocks before it as they are after quantization (Frantar et al. 2022,
section 4), so that what is chosen for it also repairs part of their error. What is done with the inputs is
gptq_model.py's and awq_model.py's.
"""

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from gpt.dataset.loader import TokenSource
from gpt.model.transformer import Transformer
from gpt.quantize.gptq import Hessian

BATCH_SEQUENCES = 8
"""Calibration sequences of one forward pass."""


def draw_sequences(
    sources: Sequence[tuple[TokenSource, int]], seq_len: int, generator: torch.Generator
) -> Tensor:
    """Draw sequences (n, seq_len) at random places: from each (tokens, count), count of them.

    Raises ValueError when a source is shorter than one sequence.
    """
    rows = []
    for tokens, count in sources:
        if count and len(tokens) < seq_len:
            raise ValueError(f"quantize.seq_len: {seq_len} is more than the {len(tokens)} tokens there are")
        last = len(tokens) - seq_len + 1
        for start in torch.randint(max(1, last), (count,), generator=generator).tolist():
            rows.append(torch.from_numpy(np.asarray(tokens[start : start + seq_len], dtype=np.int64)))
    return torch.stack(rows)  # (n, seq_len)


class _Taken(Exception):
    """The inputs are in; the rest of the block would be wasted."""


class CalibrationWalk:
    """The residual stream of calibration tokens (n, T) in front of one block after the other."""

    def __init__(self, model: Transformer, token_ids: Tensor) -> None:
        self.model = model.eval()
        self.rope = model.rope(0, token_ids.shape[1])
        self.batches = [model.embed_tokens(ids) for ids in token_ids.split(BATCH_SEQUENCES)]  # (b, T, C) each
        self.firsts: list[Tensor | None] = [None] * len(self.batches)
        """The first block's values, (b, T, G, D)."""
        self.index = 0
        """The block that stands next."""

    def inputs(self, names: Sequence[str]) -> list[Hessian]:
        """Return the statistics of what reaches linears of the block, named in the order of the forward pass.

        The block is run as far as the last of them.
        """
        hessians, handles = [], []
        for name in names:
            linear = float_linear(self.model, name)
            hessian = Hessian(linear.in_features, linear.weight.device)
            is_last = name == names[-1]

            def take(
                module: nn.Module, given: tuple[Tensor, ...], hessian: Hessian = hessian, last: bool = is_last
            ) -> None:
                hessian.add(given[0])
                if last:
                    raise _Taken

            hessians.append(hessian)
            handles.append(linear.register_forward_pre_hook(take))
        block = self.model.blocks[self.index]
        for x, first in zip(self.batches, self.firsts, strict=True):
            with contextlib.suppress(_Taken):
                block(x, self.rope, first)
        for handle in handles:
            handle.remove()
        n = sum(x.shape[0] * x.shape[1] for x in self.batches)
        for name, hessian in zip(names, hessians, strict=True):
            assert hessian.n == n, f"{name} was not reached"
        return hessians

    def advance(self) -> None:
        """Run the block as it now is."""
        block = self.model.blocks[self.index]
        outputs = [block(x, self.rope, first) for x, first in zip(self.batches, self.firsts, strict=True)]
        self.batches, self.firsts = [x for x, _ in outputs], [first for _, first in outputs]
        self.index += 1


def float_linear(model: Transformer, name: str) -> nn.Linear:
    """Return a linear that is not quantized yet. Raises ValueError when its weights are not finite."""
    linear = model.get_submodule(name)
    assert isinstance(linear, nn.Linear), f"{name} is not a float linear"
    if not bool(linear.weight.isfinite().all()):
        raise ValueError(f"{name}.weight: not finite; train the parent again")
    return linear

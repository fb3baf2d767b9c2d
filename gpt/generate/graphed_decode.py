"""Decoding of one sequence by CUDA graphs: a token is one launch, not some twenty small kernels a block.

At batch 1 Python starts those kernels more slowly than the device runs them. A graph records them once and
starts them together. Its shapes are fixed, so there is one for each power of two of positions that attention
reads, recorded when the text gets there. A mixture of experts cannot be recorded: the host reads its counts.
"""

import torch
from torch import Tensor

from gpt.generate.fixed_cache import FixedCache
from gpt.model.config import ModelConfig
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer

LEAST_SEEN = 128
"""Positions of the smallest graph."""
WARM_UP_PASSES = 3
"""Before a recording: kernels compile, choose their tiles and allocate, which no graph can hold."""


def is_graphed(model: Transformer, device: torch.device | str) -> bool:
    """Whether `generate` decodes this model by graphs there."""
    return torch.device(device).type == "cuda" and model.config.n_experts == 0


def positions_read(config: ModelConfig, end: int) -> int:
    """Return how many positions attention reads for a sequence that ends at `end`: a power of two, or all."""
    return min(config.max_seq_len, max(LEAST_SEEN, 1 << (end - 1).bit_length()))


class GraphedDecode:
    """One sequence, from where a KVCache stands; its length stays the truth, its other methods rest.

    On a CPU the same passes run without a recording. `compiled`: torch.compile fuses a pass first.
    """

    def __init__(self, model: Transformer, cache: KVCache, *, compiled: bool = False) -> None:
        self.model, self._kv, self._cache = model, cache, FixedCache(cache)
        device = cache.keys.device
        self._token = torch.zeros(1, 1, dtype=torch.long, device=device)
        self._logits = torch.empty(model.config.vocab_size, device=device)
        self._is_recorded = device.type == "cuda"
        self._graphs: dict[int, torch.cuda.CUDAGraph] = {}
        self._compute = torch.compile(self._next, dynamic=False) if compiled else self._next

    def logits(self, token_id: int) -> Tensor:
        """Feed one token; return the next one's logits (V,), fp32, on the CPU."""
        self._token.fill_(token_id)
        self.step()
        return self._logits.cpu()

    def step(self) -> None:
        """Feed the likeliest token of the pass before, or `logits`' own; the device need not have finished.

        Raises ValueError when the context is full.
        """
        end, limit = self._kv.length + 1, self.model.config.max_seq_len
        if end > limit:
            raise ValueError(f"{end} tokens do not fit max_seq_len {limit}")
        seen = positions_read(self.model.config, end)
        self._cache.seen = seen
        self._cache.length.fill_(self._kv.length)
        with torch.inference_mode():
            if not self._is_recorded:
                self._pass()
            else:
                if seen not in self._graphs:
                    self._graphs[seen] = self._record()
                self._graphs[seen].replay()
        self._kv.length = end

    def _next(self) -> Tensor:
        x = self.model.hidden_states(self._token, self._cache)  # (1, 1, C)
        return self.model.logits(x[:, -1])[0].float()  # (V,)

    def _pass(self) -> None:
        logits = self._compute()
        self._logits.copy_(logits)
        self._token.copy_(logits.argmax().view(1, 1))

    def _warm_up(self) -> None:
        """Run some passes and take back what they changed; the next one writes their keys and values anew."""
        state, token = self._cache.state(), self._token.clone()
        for _ in range(WARM_UP_PASSES):
            self._pass()
            self._cache.restore(state)
            self._token.copy_(token)

    def _record(self) -> torch.cuda.CUDAGraph:
        """Warm up beside the main stream, as graphs ask for, and record one pass without running it."""
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            self._warm_up()
        torch.cuda.current_stream().wait_stream(beside)
        graph = torch.cuda.CUDAGraph()
        pool = next(iter(self._graphs.values())).pool() if self._graphs else None
        with torch.cuda.graph(graph, pool=pool):
            self._pass()
        return graph

"""Many requests at once: one forward pass a step over all that run, whatever their lengths.

A step feeds one token of each request that generates, and up to `max_prompt_tokens` of prompts beside them,
so a long prompt does not hold the others up (schedule.py). Keys and values lie in blocks (paged_cache.py):
beginnings that requests have in common are computed once.

Token ids only, one thread, no clock and no queue's limit: those are the server's. The result of a request
does not depend on its neighbours, beyond the rounding of a matrix product of more rows.
"""

from collections import deque
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from gpt.generate.config import BatchConfig, SamplingConfig
from gpt.generate.engine import Step, check_prompt, step_of
from gpt.generate.paged_cache import Chunk, PagedCache, PagedPass
from gpt.generate.request import Request
from gpt.generate.sampling import choose_all
from gpt.generate.schedule import Schedule
from gpt.model.transformer import Transformer

__all__ = ["BatchConfig", "BatchEngine", "Request", "Step"]


class BatchEngine:
    """Continuous batching over one model: requests come and go between two steps."""

    def __init__(
        self, model: Transformer, config: BatchConfig, *, device: torch.device | str = "cpu"
    ) -> None:
        assert not model.training, "call model.eval() first: dropout would change the text"
        n_blocks = config.cache_tokens // config.block_tokens
        if n_blocks * config.block_tokens < model.config.max_seq_len:
            raise ValueError(
                f"cache_tokens: {config.cache_tokens} in blocks of {config.block_tokens} do not hold one "
                f"context of {model.config.max_seq_len}; give more"
            )
        self.model, self.config = model, config
        self.schedule = Schedule(config, n_blocks)
        self.cache = PagedCache(
            model.config, n_blocks, config.block_tokens, device=device, dtype=model.embed.weight.dtype
        )

    @property
    def waiting(self) -> deque[Request]:
        """Requests that have not begun, the next one first."""
        return self.schedule.waiting

    @property
    def running(self) -> list[Request]:
        """Requests that hold blocks, the oldest first."""
        return self.schedule.running

    @property
    def has_work(self) -> bool:
        """Whether a step would do anything."""
        return bool(self.waiting or self.running)

    def submit(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingConfig,
        *,
        stop_ids: Collection[int] = (),
        n_alternatives: int = 0,
    ) -> Request:
        """Take a request in; it runs when there is room. Raises ValueError as `generate` does."""
        check_prompt(self.model.config, prompt_ids)
        request = Request(prompt_ids, sampling, stop_ids, n_alternatives)
        self.waiting.append(request)
        return request

    def cancel(self, request: Request) -> None:
        """Forget a request and free what it holds; one that has ended is no error."""
        self.schedule.leave(request)

    def step(self) -> list[tuple[Request, Step]]:
        """Compute one pass; return the new token of each request that got one. The ended ones leave.

        A step that reads prompts alone returns nothing. Raises FloatingPointError when logits are not
        finite: the weights are damaged.
        """
        plan = self.schedule.plan()
        if not plan:
            return []
        is_ready = [n == request.n_fresh for request, n in plan.items()]
        logits = self._forward(plan, is_ready)  # (R, V)
        self.schedule.computed(plan)
        ready = [request for request, flag in zip(plan, is_ready, strict=True) if flag]
        if not ready:
            return []
        token_ids = choose_all([r.sampler for r in ready], logits, [r.seen for r in ready])
        logprobs = logits.log_softmax(dim=-1)  # (R, V)
        steps = []
        for request, token_id, row in zip(ready, token_ids, logprobs, strict=True):
            request.add(token_id)
            step = step_of(
                row,
                token_id,
                n_alternatives=request.n_alternatives,
                is_stop=token_id in request.stop_ids,
                is_full=len(request.token_ids) == request.sampling.max_tokens
                or request.n_computed == self.model.config.max_seq_len,
            )
            steps.append((request, step))
            if step.finish_reason is not None:
                self.schedule.leave(request)
        return steps

    @torch.inference_mode()
    def _forward(self, plan: dict[Request, int], is_ready: Sequence[bool]) -> Tensor:
        """Feed each request's next tokens; return the ready ones' logits (R, V), fp32, on the CPU."""
        chunks = [
            Chunk(
                token_ids=request.fresh_ids(n),
                start=request.n_computed,
                last_id=request.last_id,
                blocks=request.blocks,
            )
            for request, n in plan.items()
        ]
        view = PagedPass(self.cache, chunks, self.model.config.n_heads)
        x = self.model.hidden_states(view.token_ids, view)[0]  # (N, C)
        return self.model.logits(x[view.lasts[torch.tensor(is_ready)]]).float().cpu()

"""Many requests at once: each call of `step` brings every running one a token further.

Token ids only, one thread, no clock and no queue's limit: those are the server's. The result of a request
does not depend on its neighbours.
"""

from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch

from gpt.generate.config import SamplingConfig
from gpt.generate.engine import Step, check_prompt, next_logits, step_of
from gpt.generate.sampling import Sampler
from gpt.model.kv_cache import KVCache
from gpt.model.transformer import Transformer


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """How much is held at once."""

    max_running: int = 64
    """Requests that decode together; the others wait in order."""

    def __post_init__(self) -> None:
        if self.max_running < 1:
            raise ValueError(f"max_running: at least 1 is needed, got {self.max_running}")


class Request:
    """One request inside the engine; equal only to itself."""

    def __init__(
        self,
        prompt_ids: Sequence[int],
        sampling: SamplingConfig,
        stop_ids: Collection[int],
        n_alternatives: int,
    ) -> None:
        self.prompt_ids = tuple(prompt_ids)
        self.sampling = sampling
        self.stop_ids = frozenset(stop_ids)
        self.n_alternatives = n_alternatives
        self.token_ids: list[int] = []
        """Generated so far."""
        self.sampler = Sampler(sampling)
        self.cache: KVCache | None = None


class BatchEngine:
    """Continuous batching over one model: requests come and go between two steps."""

    def __init__(
        self, model: Transformer, config: BatchConfig, *, device: torch.device | str = "cpu"
    ) -> None:
        assert not model.training, "call model.eval() first: dropout would change the text"
        self.model, self.config, self.device = model, config, device
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []

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
        if request in self.waiting:
            self.waiting.remove(request)
        if request in self.running:
            self._end(request)

    def step(self) -> list[tuple[Request, Step]]:
        """Bring every running request one token further; the ended ones leave.

        Raises FloatingPointError when logits are not finite.
        """
        while self.waiting and len(self.running) < self.config.max_running:
            request = self.waiting.popleft()
            request.cache = KVCache(
                self.model.config, 1, device=self.device, dtype=self.model.embed.weight.dtype
            )
            self.running.append(request)
        steps = []
        for request in list(self.running):
            assert request.cache is not None
            fresh = request.token_ids[-1:] or list(request.prompt_ids)
            logits = next_logits(self.model, torch.tensor([fresh], device=self.device), request.cache)  # (V,)
            token_id = request.sampler.choose(logits, {*request.prompt_ids, *request.token_ids})
            request.token_ids.append(token_id)
            step = step_of(
                logits,
                token_id,
                n_alternatives=request.n_alternatives,
                is_stop=token_id in request.stop_ids,
                is_full=len(request.token_ids) == request.sampling.max_tokens
                or request.cache.length == self.model.config.max_seq_len,
            )
            steps.append((request, step))
            if step.finish_reason is not None:
                self._end(request)
        return steps

    def _end(self, request: Request) -> None:
        self.running.remove(request)
        request.cache = None

"""One served model inside the engines' thread: its batch engine, its adapter, the texts it makes.

Two lanes may stand on one set of weights, with different adapters: each has an engine (and so a cache) of
its own, and before its step its own adapter is switched on.
"""

import time
from collections.abc import Iterable

from gpt.adapters.switch import Mix, use_adapters
from gpt.catalog.open_model import OpenModel
from gpt.generate.batch_engine import BatchConfig, BatchEngine, Request
from gpt.serve.metrics import Metrics
from gpt.serve.ticket import Indexed, Job, Ticket


class Lane:
    """Used by the engines' thread alone, but for `n_taken`, which is the loop's."""

    def __init__(self, opened: OpenModel, mix: Mix | None, max_running: int, metrics: Metrics) -> None:
        self.opened = opened
        self.mix = mix
        """What acts on weights that are shared; None leaves weights of one's own as they are."""
        self.n_taken = 0
        """Places that requests hold, running or waiting."""
        self._config = BatchConfig(max_running=max_running)
        self._metrics = metrics
        self._stop_ids = frozenset(opened.tokenizer.special_tokens.values())
        self._jobs: dict[Request, tuple[Ticket, int, Job]] = {}
        self.engine = self._new_engine()

    def switch(self) -> None:
        """Let this lane's adapter act, and no other."""
        if self.mix is not None:
            use_adapters(self.opened.model, self.mix)

    def submit(self, ticket: Ticket) -> None:
        """Bring a ticket's jobs into the engine, all or none; raises ValueError as the engine does."""
        try:
            for index, job in enumerate(ticket.jobs):
                job.request = self.engine.submit(
                    job.prompt_ids,
                    job.sampling,
                    stop_ids=self._stop_ids,
                    n_alternatives=job.n_alternatives,
                )
                self._jobs[job.request] = (ticket, index, job)
        except ValueError:
            self.cancel(ticket)
            raise
        n_prompt_tokens = sum(len(job.prompt_ids) for job in ticket.jobs)
        self._metrics.prompt_tokens.labels(self.opened.name).inc(n_prompt_tokens)
        self._count()

    def cancel(self, ticket: Ticket) -> None:
        """Take what a ticket still has running out of the engine."""
        for job in ticket.jobs:
            if job.request in self._jobs:
                self._end(job.request)
        self._count()

    def step(self) -> dict[Ticket, list[Indexed]]:
        """Bring every running text a token further; one that met a stop string leaves the engine."""
        made: dict[Ticket, list[Indexed]] = {}
        steps = self.engine.step()
        now = time.monotonic()
        for request, step in steps:
            ticket, index, job = self._jobs[request]
            piece = job.stream.push(step)
            self._time(job, now)
            if piece.finish_reason is not None:
                self._end(request)
            made.setdefault(ticket, []).append((index, piece))
        self._metrics.generated_tokens.labels(self.opened.name).inc(len(steps))
        self._count()
        return made

    def fail(self) -> Iterable[Ticket]:
        """Forget every text and begin with a new engine; return the tickets that had some."""
        tickets = {ticket: None for ticket, _, _ in self._jobs.values()}
        self._jobs.clear()
        self.engine = self._new_engine()
        self._count()
        return tickets

    def _new_engine(self) -> BatchEngine:
        return BatchEngine(self.opened.model, self._config, device=self.opened.device)

    def _end(self, request: Request) -> None:
        self.engine.cancel(request)
        del self._jobs[request]

    def _time(self, job: Job, now: float) -> None:
        histogram = self._metrics.token_interval if job.has_begun else self._metrics.first_token
        histogram.labels(self.opened.name).observe(now - job.last_s)
        job.last_s, job.has_begun = now, True

    def _count(self) -> None:
        self._metrics.running.labels(self.opened.name).set(len(self.engine.running))
        self._metrics.waiting.labels(self.opened.name).set(len(self.engine.waiting))


def lanes_of(models: Iterable[OpenModel], max_running: int, metrics: Metrics) -> dict[str, Lane]:
    """Return a lane for each model by its name; raises ValueError for a name that comes twice."""
    lanes: dict[str, Lane] = {}
    models = list(models)
    if not models:
        raise ValueError("models: none is given; name one, such as `--model pretrain`")
    for opened in models:
        if opened.name in lanes:
            raise ValueError(f"model: {opened.name!r} is given twice; a request could not tell them apart")
        is_shared = sum(other.model is opened.model for other in models) > 1
        mix = opened.info.get("adapter", {}) if is_shared else None
        lanes[opened.name] = Lane(opened, mix, max_running, metrics)
    return lanes

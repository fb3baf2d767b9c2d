"""What one HTTP request has running in the engines: its texts, and the way of their pieces back to asyncio.

The engines' thread hands pieces over with `call_soon_threadsafe`; all methods but `__init__` run on the loop.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from gpt.generate.batch_engine import Request
from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import Piece, PieceStream

Indexed = tuple[int, Piece]


@dataclass(kw_only=True, slots=True, eq=False)
class Job:
    """One text to generate. Filled in by the engines' thread alone."""

    prompt_ids: Sequence[int]
    sampling: SamplingConfig
    stream: PieceStream
    n_alternatives: int
    request: Request | None = None
    """In the engine, as long as it runs there."""
    last_s: float = 0.0
    """When it was submitted, then when its last token came; monotonic."""
    has_begun: bool = False
    n_cached_tokens: int = 0
    """Prompt tokens that the engine found in its cache; known with the first token."""


@dataclass(kw_only=True, slots=True, eq=False)
class Ticket:
    """The places and the jobs of one request. Whoever gets one releases it, whatever happens."""

    n_open: int
    """Places that it holds: one for each text that has not ended."""
    deadline_s: float
    """On the loop's clock."""
    give_back: Callable[[int], None]
    """Frees so many places in the queue."""
    jobs: Sequence[Job] = ()
    """None until they are handed in, and none ever where a prompt is only echoed."""
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    fault: Exception | None = None
    _ready: list[Indexed] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def deliver(self, pieces: Sequence[Indexed]) -> None:
        """Take what a step made; a text's last piece frees its place at once, however slow its reader is."""
        n_ended = sum(piece.finish_reason is not None for _, piece in pieces)
        if n_ended and self.n_open:
            self.n_open -= n_ended
            self.give_back(n_ended)
        self._ready += pieces
        self._news.set()

    def fail(self, error: Exception) -> None:
        """End the answer with an error; the first one counts."""
        self.fault = self.fault or error
        self._news.set()

    async def pieces(self) -> AsyncIterator[list[Indexed]]:
        """Yield what came since the last look, until every text has ended.

        Raises the fault that ended it, or TimeoutError.
        """
        n_running = len(self.jobs)
        while n_running:
            async with asyncio.timeout_at(self.deadline_s):
                await self._news.wait()
            self._news.clear()
            ready, self._ready = self._ready, []
            if ready:
                yield ready
            n_running -= sum(piece.finish_reason is not None for _, piece in ready)
            if self.fault is not None and n_running:
                raise self.fault

    def release(self) -> None:
        """Free the places that are left."""
        n_open, self.n_open = self.n_open, 0
        if n_open:
            self.give_back(n_open)

"""The one thread that computes: it steps the engines of all models in turn.

Commands come in over a queue and are done between two steps, so engines and models need no lock; pieces
go out to asyncio, one call a step. Text is decoded here, because a stop string must end its request before
the next step. A fault in a step ends the texts of that model, with a new engine behind it, and nothing else.
"""

import asyncio
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import TypeVar

from gpt.catalog.open_model import OpenModel
from gpt.serve.config import ServeConfig
from gpt.serve.errors import FAULT, ApiError
from gpt.serve.lane import Lane, lanes_of
from gpt.serve.metrics import Metrics
from gpt.serve.ticket import Job, Ticket

T = TypeVar("T")
log = logging.getLogger("uvicorn.error")
GONE = ApiError(503, "the engine has stopped; start the server again", code="engine_stopped")
CUT = ApiError(503, "the server is shutting down; ask again later", code="shutting_down")


class EngineThread:
    """All served models. Public methods run on the event loop."""

    def __init__(self, models: Sequence[OpenModel], config: ServeConfig, metrics: Metrics) -> None:
        self.config = config
        self.lanes = lanes_of(models, config, metrics)
        self.tickets: set[Ticket] = set()
        """Requests whose answers are not over."""
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="engines", daemon=True)
        self._is_closed = False
        self._is_over = False

    @property
    def is_dead(self) -> bool:
        """Whether the thread has ended without being told to."""
        return self._is_over and not self._is_closed

    def take(self, lane: Lane, n: int) -> Ticket:
        """Take places for n texts, to be released; the time limit begins. Raises ApiError 429 when the queue
        is full."""
        room = self.config.max_running + self.config.max_waiting
        if lane.n_taken and lane.n_taken + n > room:
            raise ApiError(
                429,
                f"{lane.n_taken} of {room} places are taken and this needs {n}; try again later",
                code="queue_full",
                headers={"Retry-After": str(self.config.retry_after_s)},
            )
        lane.n_taken += n

        def give_back(n: int) -> None:
            lane.n_taken -= n

        deadline_s = asyncio.get_running_loop().time() + self.config.request_timeout_s
        ticket = Ticket(n_open=n, deadline_s=deadline_s, give_back=give_back)
        self.tickets.add(ticket)
        return ticket

    async def submit(self, lane: Lane, ticket: Ticket, jobs: Sequence[Job]) -> None:
        """Hand in a job for each place of a ticket; returns when the engine has accepted them.

        Raises ApiError 503 when the thread is dead, ValueError as the engine.
        """
        assert len(jobs) == ticket.n_open, "a job without a place"
        ticket.jobs = jobs
        for job in jobs:
            job.last_s = time.monotonic()
        await self._do(lambda: lane.submit(ticket))

    def release(self, lane: Lane, ticket: Ticket) -> None:
        """Give a ticket back; what it has running leaves the engine before the next step."""
        self.tickets.discard(ticket)
        if ticket.n_open:
            ticket.release()
            self._inbox.put(lambda: lane.cancel(ticket))

    async def call(self, name: str, function: Callable[[OpenModel], T], ticket: Ticket | None = None) -> T:
        """Run a function of a model between two steps, with its adapter switched on: the way to use one
        beside its engine. It should be short: everybody waits for it. The fault of a ticket comes instead."""
        lane = self.lanes[name]

        def switched() -> T:
            if ticket is not None and ticket.fault is not None:
                raise ticket.fault
            lane.switch()
            return function(lane.opened)

        return await self._do(switched)

    def cut(self) -> None:
        """End every answer that is not over with an error."""
        for ticket in list(self.tickets):
            ticket.fail(CUT)

    def close(self) -> None:
        """End the thread behind the step that it is in, and wait for it."""
        if self._thread.is_alive():
            self._inbox.put(self._close)
            self._thread.join()

    def _close(self) -> None:
        self._is_closed = True

    async def _do(self, work: Callable[[], T]) -> T:
        """Return what `work` returns in the thread; it starts with the first work."""
        if self._thread.ident is None:
            self._thread.start()
        done: Future[T] = Future()

        def command() -> None:
            if self._is_over:
                done.set_exception(GONE)
            elif done.set_running_or_notify_cancel():
                try:
                    done.set_result(work())
                except Exception as error:  # it is the caller's, who waits for it
                    done.set_exception(error)

        self._inbox.put(command)
        if self._is_over:  # nobody may be there to take it out
            self._refuse_inbox()
        return await asyncio.wrap_future(done)

    def _run(self) -> None:
        try:
            while not self._is_closed:
                self._take_in()
                for lane in self.lanes.values():
                    if lane.engine.has_work:
                        self._step(lane)
        finally:
            self._is_over = True
            for lane in self.lanes.values():
                self._tell(lane.fail(), GONE)
            self._refuse_inbox()

    def _take_in(self) -> None:
        """Do what waits in the inbox; sleep there when there is nothing else to do.

        What comes in meanwhile waits for the next step: clients that ask on and on would let none come.
        """
        if not any(lane.engine.has_work for lane in self.lanes.values()):
            self._inbox.get()()
        for _ in range(self._inbox.qsize()):
            if self._is_closed:
                return
            self._inbox.get_nowait()()

    def _step(self, lane: Lane) -> None:
        lane.switch()
        try:
            made = lane.step()
        except Exception:
            log.exception("a step of %s failed", lane.opened.name)
            self._tell(lane.fail(), FAULT)
            return
        self._on_loop([(ticket, partial(ticket.deliver, pieces)) for ticket, pieces in made.items()])

    def _tell(self, tickets: Iterable[Ticket], error: Exception) -> None:
        self._on_loop([(ticket, partial(ticket.fail, error)) for ticket in tickets])

    def _on_loop(self, news: Sequence[tuple[Ticket, Callable[[], None]]]) -> None:
        """Hand news over, in one call a loop (there is one but in tests): each wakes it."""
        for loop in {ticket.loop for ticket, _ in news}:
            calls = [call for ticket, call in news if ticket.loop is loop]
            try:
                loop.call_soon_threadsafe(_each, calls)
            except RuntimeError:
                assert loop.is_closed(), "only a loop that is over may refuse"

    def _refuse_inbox(self) -> None:
        """Answer what nobody will do any more; the loop and the dying thread may both be here."""
        while True:
            try:
                self._inbox.get_nowait()()
            except queue.Empty:
                return


def _each(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()

"""One generation at a time, and a bounded queue in front of it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TypeVar

from anyio import to_thread

T = TypeVar("T")


class QueueFull(Exception):
    """As many requests wait as may."""


class Ticket:
    """A place in the queue; whoever takes one gives it back, whatever happens."""

    def __init__(self, slot: "GenerationSlot") -> None:
        self._slot = slot
        self._has_turn = False
        self._is_given_back = False

    async def in_turn(self, steps: Iterator[T]) -> AsyncIterator[T]:
        """Wait for the turn, then yield `steps`, each made in a thread; cancelling stops between two."""
        await self._slot.turn.acquire()
        self._has_turn = True
        end = object()
        while True:
            item = await to_thread.run_sync(next, steps, end)
            if item is end:
                return
            yield item  # type: ignore[misc]

    def give_back(self) -> None:
        """Free the place; a second call does nothing."""
        if self._is_given_back:
            return
        self._is_given_back = True
        self._slot.n_tickets -= 1
        if self._has_turn:
            self._slot.turn.release()


class GenerationSlot:
    """The queue of one model."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self.n_tickets = 0
        """Requests that generate or wait."""
        self.turn = asyncio.Lock()

    def take(self) -> Ticket:
        """Take a place; raises QueueFull."""
        if self.n_tickets > self.max_waiting:
            raise QueueFull
        self.n_tickets += 1
        return Ticket(self)

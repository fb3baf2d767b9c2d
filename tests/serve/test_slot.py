"""One at a time, a bounded queue, and clients that leave: driven as ASGI, with a generation without end."""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from gpt.catalog.open_model import OpenModel
from gpt.generate.generate_text import Piece
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig

LIMIT_S = 20.0


class Endless:
    """Stands in for generate_text: pieces until it is told to end; counts how many run at once."""

    def __init__(self) -> None:
        self.made = 0
        self.running = 0
        self.most_running = 0
        self.end = threading.Event()

    def __call__(self, *args: Any, **kwargs: Any) -> Iterator[Piece]:
        return self._pieces()

    def _pieces(self) -> Iterator[Piece]:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            n = 0
            while True:
                n += 1
                self.made += 1
                time.sleep(0.002)
                reason = "stop" if self.end.is_set() else None
                yield Piece(text="x", tokens=(), n_tokens=n, finish_reason=reason)  # type: ignore[arg-type]
                if reason:
                    return
        finally:
            self.running -= 1


class Caller:
    """One ASGI request."""

    def __init__(self, app: Any, **body: Any) -> None:
        self.app = app
        self.body = json.dumps({"prompt": "a", **body}).encode()
        self.gone = asyncio.Event()
        self.messages: list[Any] = []
        self.is_sent = False
        self.task = asyncio.ensure_future(app(self._scope(), self._receive, self._send))

    def _scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/v1/completions",
            "raw_path": b"/v1/completions",
            "query_string": b"",
            "root_path": "",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
        }

    async def _receive(self) -> dict[str, Any]:
        if not self.is_sent:
            self.is_sent = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int | None:
        return self.messages[0]["status"] if self.messages else None


async def until(condition: Any) -> None:
    """Wait for a condition; the limit guards against a hang and measures nothing."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.005)


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> Endless:
    endless = Endless()
    monkeypatch.setattr("gpt.serve.app.generate_text", endless)
    return endless


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(opened: OpenModel, endless: Endless, stream: bool) -> None:
    """A generation that goes on for nobody, and a queue that stays full (streamed or not)."""

    async def scene() -> None:
        app = create_app(opened, ServeConfig(max_waiting=0))
        slot = app.state.slot
        first = Caller(app, stream=stream)
        await until(lambda: endless.made > 3)
        refused = Caller(app)
        await asyncio.wait_for(refused.task, LIMIT_S)
        assert refused.status == 429
        first.gone.set()
        await asyncio.wait_for(first.task, LIMIT_S)
        assert slot.n_tickets == 0
        assert not slot.turn.locked()
        made = endless.made
        await asyncio.sleep(0.05)
        assert endless.made == made
        endless.end.set()
        second = Caller(app, stream=stream)
        await asyncio.wait_for(second.task, LIMIT_S)
        assert second.status == 200

    asyncio.run(scene())


def test_one_generates_the_next_waits_the_third_is_refused(opened: OpenModel, endless: Endless) -> None:
    """Two generations at once, a queue without an end, a 429 without Retry-After."""

    async def scene() -> None:
        app = create_app(opened, ServeConfig(max_waiting=1, retry_after_s=3))
        first = Caller(app)
        await until(lambda: endless.made > 3)
        second = Caller(app, stream=True)
        await until(lambda: app.state.slot.n_tickets == 2)
        third = Caller(app)
        await asyncio.wait_for(third.task, LIMIT_S)
        assert third.status == 429
        assert (b"retry-after", b"3") in third.messages[0]["headers"]
        error = json.loads(third.messages[1]["body"])["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
        endless.end.set()
        await asyncio.wait_for(asyncio.gather(first.task, second.task), LIMIT_S)
        assert first.status == second.status == 200
        assert endless.most_running == 1
        assert app.state.slot.n_tickets == 0

    asyncio.run(scene())


def test_a_client_that_leaves_the_queue_frees_its_place(opened: OpenModel, endless: Endless) -> None:
    """A waiter that left still gets its turn, or holds its place for ever."""

    async def scene() -> None:
        app = create_app(opened, ServeConfig(max_waiting=1))
        first = Caller(app)
        await until(lambda: endless.made > 3)
        waiters = [Caller(app, stream=True)]
        await until(lambda: app.state.slot.n_tickets == 2)
        waiters[0].gone.set()
        await asyncio.wait_for(waiters[0].task, LIMIT_S)
        assert app.state.slot.n_tickets == 1
        endless.end.set()
        await asyncio.wait_for(first.task, LIMIT_S)
        assert endless.most_running == 1
        assert not app.state.slot.turn.locked()

    asyncio.run(scene())

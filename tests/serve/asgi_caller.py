"""A client of an application in this event loop, which can leave in the middle."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from gpt.catalog.open_model import OpenModel
from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import generate_text
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig

LIMIT_S = 60.0
"""Against a hang; it measures nothing."""


class Caller:
    """One request, sent at once."""

    def __init__(
        self, app: FastAPI, path: str = "/v1/completions", method: str = "POST", **body: Any
    ) -> None:
        self.body = json.dumps({"prompt": "a", **body}).encode()
        self.gone = asyncio.Event()
        self.messages: list[Any] = []
        self.is_sent = False
        self.task = asyncio.ensure_future(app(self._scope(path, method), self._receive, self._send))

    def _scope(self, path: str, method: str) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
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

    async def end(self) -> None:
        """Wait until the application has done with this request."""
        await asyncio.wait_for(self.task, LIMIT_S)

    async def leave(self) -> None:
        """Close the connection."""
        self.gone.set()
        await self.end()

    @property
    def status(self) -> int | None:
        """The answer's status, once it has begun."""
        return self.messages[0]["status"] if self.messages else None

    @property
    def header(self) -> dict[bytes, bytes]:
        """The answer's headers."""
        return dict(self.messages[0]["headers"])

    @property
    def raw(self) -> bytes:
        """The body as far as it has come."""
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def json(self) -> Any:
        """The body of an answer that is not streamed."""
        return json.loads(self.raw)

    @property
    def events(self) -> list[Any]:
        """A stream's events as far as they have come, without [DONE]."""
        lines = [line.removeprefix("data: ") for line in self.raw.decode().split("\n\n") if line]
        return [json.loads(line) for line in lines if line != "[DONE]"]

    @property
    def text(self) -> str:
        """The text of the first choice as far as it has come."""
        return "".join(event["choices"][0]["text"] for event in self.events)


@asynccontextmanager
async def serving(*models: OpenModel, **limits: Any) -> AsyncIterator[FastAPI]:
    """An application that lives inside the block."""
    app = create_app(models, ServeConfig(**limits))
    async with app.router.lifespan_context(app):
        yield app


async def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.005)


def alone(opened: OpenModel, prompt: str | list[int], stop: Sequence[str] = (), **dials: Any) -> str:
    """Return the text that the one-request path makes of a prompt."""
    sampling = SamplingConfig(**{"max_tokens": 16, "seed": 0, "temperature": 0.0, **dials})
    prompt_ids = opened.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt
    pieces = generate_text(opened.model, opened.tokenizer, prompt_ids, sampling, stop=stop)
    return "".join(piece.text for piece in pieces)

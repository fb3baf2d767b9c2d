"""A server of the page whose models say what a test wrote, as slowly as it wants."""

import asyncio
import json
import math
import socket
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from gpt.catalog.open_model import OpenModel
from gpt.serve.errors import install_error_handlers
from gpt.serve.playground import playground_routes

Token = tuple[bytes, float, list[tuple[str, float]]]
"""Its bytes, its probability, its alternatives."""


class Script:
    """What the next answers are, and what was asked."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.pause_s = 0.0
        """In front of each token."""
        self.hangs = False
        """Whether the stream stays open behind its tokens."""
        self.together = 1
        """Streams that must be open before any says anything."""
        self.broken: dict[str, Any] | None = None
        """An error event behind the tokens."""
        self.is_cut = False
        """Whether the stream ends without its [DONE]."""
        self.refusals: list[tuple[int, dict[str, Any], dict[str, str]]] = []
        """Status, error and headers of the next answers."""
        self.asked: list[tuple[dict[str, Any], Mapping[str, str]]] = []
        """Bodies and headers."""
        self.n_open = 0
        self.left = threading.Event()
        """A client closed its connection in the middle."""

    def say(self, *texts: str, p: float = 0.5) -> None:
        """Make each text a token."""
        self.tokens = [(text.encode(), p, [(text, p), (f"{text}'", 1 - p)]) for text in texts]

    async def stream(self, is_chat: bool) -> AsyncIterator[bytes]:
        """Yield the events."""
        self.n_open += 1
        try:
            while self.n_open < self.together:
                await asyncio.sleep(0.01)
            for token in self.tokens:
                await asyncio.sleep(self.pause_s)
                yield event(chunk(token, is_chat))
            while self.hangs:
                await asyncio.sleep(0.01)
            if self.broken:
                yield event({"error": self.broken})
            if not self.is_cut:
                yield event({"choices": [chunk_choice([], is_chat) | {"finish_reason": "stop"}]})
                usage = {"prompt_tokens": 1, "completion_tokens": len(self.tokens), "total_tokens": 1}
                yield event({"choices": [], "usage": usage})
                yield b"data: [DONE]\n\n"
        except asyncio.CancelledError:
            self.left.set()
            raise


def event(body: dict[str, Any]) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(token: Token, is_chat: bool) -> dict[str, Any]:
    """Return a token's event in the shape of an endpoint."""
    return {"choices": [chunk_choice([token], is_chat)]}


def chunk_choice(tokens: list[Token], is_chat: bool) -> dict[str, Any]:
    """Return a choice."""
    names = [data.decode("utf-8") if _is_text(data) else escaped(data) for data, _, _ in tokens]
    if is_chat:
        content = [
            {
                "token": name,
                "logprob": math.log(p),
                "bytes": list(data),
                "top_logprobs": [{"token": t, "logprob": math.log(q), "bytes": []} for t, q in top],
            }
            for name, (data, p, top) in zip(names, tokens, strict=True)
        ]
        return {"index": 0, "delta": {}, "logprobs": {"content": content}, "finish_reason": None}
    logprobs = {
        "tokens": names,
        "token_logprobs": [math.log(p) for _, p, _ in tokens],
        "top_logprobs": [{t: math.log(q) for t, q in top} for _, _, top in tokens],
        "text_offset": [0 for _ in tokens],
    }
    return {"index": 0, "text": "", "logprobs": logprobs, "finish_reason": None}


def escaped(data: bytes) -> str:
    """Return a part of a character as the API names it."""
    return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _is_text(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def scripted_app(models: Mapping[str, OpenModel], script: Script) -> FastAPI:
    """The real playground, in front of answers that are written down."""
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(playground_routes(models))

    @app.get("/v1/models")
    async def cards() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": name, "object": "model"} for name in models]}

    async def answer(request: Request, is_chat: bool) -> Any:
        script.asked.append((await request.json(), request.headers))
        if script.refusals:
            status, error, headers = script.refusals.pop(0)
            return JSONResponse({"error": error}, status, headers)
        return StreamingResponse(script.stream(is_chat), media_type="text/event-stream")

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        return await answer(request, True)

    @app.post("/v1/completions")
    async def complete(request: Request) -> Any:
        return await answer(request, False)

    return app


@contextmanager
def served(app: Any) -> Iterator[str]:
    """Serve an application on a free port of the loopback; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)

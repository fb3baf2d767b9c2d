"""Server-sent events: one `data:` line of JSON each, `data: [DONE]` at the end, whatever happened.

Also the rule for clients that leave: the generation stops between two tokens and its place is freed.
"""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import anyio
from fastapi import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gpt.generate.generate_text import Piece
from gpt.serve.errors import FAULT, ApiError
from gpt.serve.reply import Reply
from gpt.serve.slot import Ticket

T = TypeVar("T")
DONE = b"data: [DONE]\n\n"
log = logging.getLogger("uvicorn.error")


def event(body: dict[str, Any]) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


async def events(reply: Reply, pieces: AsyncIterator[Piece], *, usage: bool) -> AsyncGenerator[bytes, None]:
    """Yield the events of an answer. A fault on the way becomes an error event: the 200 is already out."""
    n_tokens = 0
    try:
        for body in reply.opening():
            yield event(body)
        async for piece in pieces:
            n_tokens = piece.n_tokens
            chunk = reply.chunk(piece)
            if chunk is not None:
                yield event(chunk)
        if usage:
            yield event(reply.usage_chunk(n_tokens))
    except Exception:
        log.exception("generation failed in a stream")
        yield event(FAULT.body)
    yield DONE


class EventStream(StreamingResponse):
    """The streamed answer; frees its place in the queue however it ends."""

    def __init__(self, content: AsyncGenerator[bytes, None], ticket: Ticket) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._content = content
        self._ticket = ticket

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end or until the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._content.aclose()
            self._ticket.give_back()


async def unless_client_leaves(request: Request, work: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `work`; cancel it and raise ApiError 499 when the client is gone.

    A task group, not asyncio's cancel: its cancelling waits for the step that runs in a thread.
    """
    results: list[T] = []
    errors: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            while (await request.receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(watch)
        try:
            results.append(await work())
        except Exception as error:  # raised below: out of a task group it would come in a group
            errors.append(error)
        group.cancel_scope.cancel()
    if errors:
        raise errors[0]
    if not results:
        raise ApiError(499, "the client closed the connection", code="client_closed")
    return results[0]

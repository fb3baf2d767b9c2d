"""Server-sent events: one `data:` line of JSON each, `data: [DONE]` at the end, whatever happened."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from gpt.serve.errors import as_api_error
from gpt.serve.reply import Reply
from gpt.serve.ticket import Indexed

DONE = b"data: [DONE]\n\n"
STUCK_S = 5.0
"""How long behind its time limit an answer may wait for a client that does not read."""
log = logging.getLogger("uvicorn.error")


def event(body: dict[str, Any]) -> bytes:
    """Return one event."""
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"


async def events(
    reply: Reply, pieces: AsyncIterator[list[Indexed]], *, usage: bool
) -> AsyncGenerator[bytes, None]:
    """Yield the events of an answer; those that are ready together go out together.

    A fault on the way becomes an error event: the 200 is already out.
    """
    try:
        if opening := b"".join(map(event, reply.opening())):
            yield opening
        async for ready in pieces:
            chunks = (reply.chunk(index, piece) for index, piece in ready)
            if out := b"".join(event(chunk) for chunk in chunks if chunk is not None):
                yield out
        if usage:
            yield event(reply.usage_chunk())
    except Exception as error:  # whatever it is, the client must be told
        refusal = as_api_error(error)
        if refusal.status == 500:
            log.exception("an answer failed in its stream")
        yield event(refusal.body)
    yield DONE


class EventStream(StreamingResponse):
    """The streamed answer; calls `release` however it ends."""

    def __init__(
        self, content: AsyncGenerator[bytes, None], release: Callable[[], None], time_limit_s: float
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._content = content
        self._release = release
        self._time_limit_s = time_limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream until the end, until the client leaves, or until it has not read for too long."""
        try:
            with anyio.move_on_after(self._time_limit_s + STUCK_S):
                await super().__call__(scope, receive, send)
        finally:
            self._release()
            await self._content.aclose()

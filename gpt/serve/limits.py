"""What is refused before the application sees it: a foreign Host header, a head or body that is too long or
comes too slowly."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gpt.serve.config import ServeConfig
from gpt.serve.errors import ApiError


class Limits:
    """ASGI middleware. It reads the body itself, so a body without Content-Length is bounded too."""

    def __init__(self, app: ASGIApp, config: ServeConfig) -> None:
        self.app = app
        self.config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 400, 408, 413 or 431."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            self._check_host(scope)
            self._check_head(scope)
            async with asyncio.timeout(self.config.body_timeout_s):
                body = await self._read_body(scope, receive)
        except TimeoutError:
            message = f"the body did not come within {self.config.body_timeout_s} s"
            await _closing(408, message, "body_too_slow").response()(scope, receive, send)
            return
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        if body is None:
            return  # the client left before its body was whole
        replayed = False

        async def replay() -> Message:
            nonlocal replayed
            if replayed:
                return await receive()
            replayed = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self.app(scope, replay, send)

    def _check_host(self, scope: Scope) -> None:
        allowed = self.config.allowed_hosts
        host = next((v.decode("latin-1") for k, v in scope["headers"] if k == b"host"), "")
        name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
        if "*" not in allowed and name not in allowed:
            raise ApiError(400, f"host: {host!r} is not served here", code="unknown_host", param="host")

    def _check_head(self, scope: Scope) -> None:
        limit = self.config.max_header_bytes
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        if size + sum(len(key) + len(value) for key, value in scope["headers"]) > limit:
            raise _closing(431, f"the request's head is longer than {limit} bytes", "head_too_long")

    async def _read_body(self, scope: Scope, receive: Receive) -> bytes | None:
        limit = self.config.max_body_bytes
        too_long = _closing(
            413, f"the body is longer than {limit} bytes; shorten the prompt", "body_too_long"
        )
        claimed = next((v for k, v in scope["headers"] if k == b"content-length"), b"0")
        if claimed.isdigit() and int(claimed) > limit:
            raise too_long
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            if len(body) > limit:
                raise too_long
            if not message.get("more_body", False):
                return bytes(body)


def _closing(status: int, message: str, code: str) -> ApiError:
    """Return an error that closes the connection: the rest of the request is never read."""
    return ApiError(status, message, code=code, headers={"Connection": "close"})

"""Who may ask: API keys, and the pages of other sites that may not.

A key comes as `Authorization: Bearer <key>`, or as the password of Basic, which is what a browser sends once
it was asked: so the playground needs no code for it. Browsers send Basic for foreign pages' requests as well;
therefore an Origin that is not this server is refused, with keys or without.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from gpt.serve.errors import ApiError

PUBLIC = ("/health", "/ready")
"""Paths that need no key: whatever restarts the server asks them and holds none."""


class Access:
    """ASGI middleware: 401 without a key, 403 for a foreign page."""

    def __init__(self, app: ASGIApp, api_keys: Sequence[str]) -> None:
        self.app = app
        self._digests = [_digest(key.encode()) for key in api_keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it, before a byte of its body is read."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            refusal = _foreign_page(headers)
            if refusal is None and self._digests and scope["path"] not in PUBLIC:
                refusal = self._without_key(headers)
            if refusal is not None:
                await refusal.response()(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _without_key(self, headers: dict[bytes, bytes]) -> ApiError | None:
        given = _digest(_key_of(headers.get(b"authorization", b"")))
        # digests are of one length and every one is compared: the time tells nothing of the keys
        if sum(hmac.compare_digest(given, known) for known in self._digests):
            return None
        scheme = 'Basic realm="rawgpt"' if b"text/html" in headers.get(b"accept", b"") else "Bearer"
        return ApiError(
            401,
            "this server needs a key: send it as `Authorization: Bearer <key>`",
            code="invalid_api_key",
            headers={"WWW-Authenticate": scheme, "Connection": "close"},
        )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _key_of(authorization: bytes) -> bytes:
    """Return the key that a header bears; nothing where it bears none."""
    scheme, _, rest = authorization.strip().partition(b" ")
    if scheme.lower() == b"bearer":
        return rest.strip()
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
        except binascii.Error:
            return b""
    return b""


def _foreign_page(headers: dict[bytes, bytes]) -> ApiError | None:
    origin = headers.get(b"origin")
    if origin is None or origin.partition(b"://")[2] == headers.get(b"host", b""):
        return None
    return ApiError(
        403,
        f"origin: pages of {origin.decode('latin-1')!r} may not use this server",
        code="foreign_origin",
        headers={"Connection": "close"},
    )

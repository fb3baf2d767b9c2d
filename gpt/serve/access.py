"""Who may ask: API keys, and the pages of other sites that may not.

A key comes as `Authorization: Bearer <key>`. The playground's page needs none: it holds nothing secret,
and asks for the key that its own requests bear. An Origin that is not this server is refused, with keys or
without.
"""

import hashlib
import hmac
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from gpt.serve.errors import ApiError

PUBLIC = ("/health", "/ready", "/", "/page/")
"""What needs no key: whatever restarts the server holds none, nor does a browser that opens the page. One
that ends in / stands for all below it, but for the page's address itself."""


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
            if refusal is None and self._digests and not is_public(scope["path"]):
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
        return ApiError(
            401,
            "this server needs a key: send it as `Authorization: Bearer <key>`",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer", "Connection": "close"},
        )


def is_public(path: str) -> bool:
    """Tell whether a path needs no key."""
    return path in PUBLIC or any(path.startswith(p) for p in PUBLIC if p.endswith("/") and p != "/")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _key_of(authorization: bytes) -> bytes:
    """Return the key that a header bears; nothing where it bears none."""
    scheme, _, rest = authorization.strip().partition(b" ")
    return rest.strip() if scheme.lower() == b"bearer" else b""


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

"""The end of a server: SIGTERM lets running answers end, within a limit; new requests are answered 503.

uvicorn alone would close its socket at once, and cut what is left without a word. A second signal ends now.
"""

import time
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from gpt.serve.engine_thread import CUT, EngineThread
from gpt.serve.errors import ApiError

ALIVE = ("/health", "/ready", "/metrics")
"""What is answered to the end; /ready says no by itself."""


class Drain:
    """Shared by the middleware, the routes and the server."""

    def __init__(self, engines: EngineThread, limit_s: float) -> None:
        self._engines = engines
        self._limit_s = limit_s
        self._began_s: float | None = None
        self._is_cut = False

    @property
    def has_begun(self) -> bool:
        """Whether new requests are refused."""
        return self._began_s is not None

    def begin(self) -> None:
        """Refuse new requests from now on. Safe in a signal handler."""
        self._began_s = self._began_s or time.monotonic()

    def is_over(self) -> bool:
        """Tell whether no answer is left; past the limit, end those that are left with an error event."""
        if self._began_s is None:
            return False
        if time.monotonic() - self._began_s >= self._limit_s and not self._is_cut:
            self._is_cut = True
            self._engines.cut()
        return not self._engines.tickets


class RefuseWhenDraining:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, drain: Drain) -> None:
        self.app = app
        self.drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 503."""
        if scope["type"] == "http" and self.drain.has_begun and scope["path"] not in ALIVE:
            headers = {"Connection": "close", "Retry-After": "10"}
            refusal = ApiError(503, CUT.message, code=CUT.code, headers=headers)
            await refusal.response()(scope, receive, send)
            return
        await self.app(scope, receive, send)


class DrainingServer(uvicorn.Server):
    """uvicorn, whose first signal begins the drain."""

    def __init__(self, config: uvicorn.Config, drain: Drain) -> None:
        super().__init__(config)
        self._drain = drain
        self._signal: tuple[int, FrameType | None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the drain; with the second signal, end."""
        if self._drain.has_begun:
            super().handle_exit(sig, frame)
            return
        self._signal = (sig, frame)
        self._drain.begin()

    async def on_tick(self, counter: int) -> bool:
        """End when the drain is over."""
        if self._signal is not None and not self.should_exit and self._drain.is_over():
            super().handle_exit(*self._signal)
        return await super().on_tick(counter)

"""HTTP around the completer: /health, /v1/models, /v1/completions, on TCP loopback or on vsock.

Plain HTTP: the sealed channel belongs to a later layer. One request generates at a time; the others wait.
"""

import json
import socket
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from .completions import BadRequest, Completer

MAX_BODY_BYTES = 2**20
MAX_DISCARDED_BYTES = 2**24
READ_LIMIT_S = 30
QUEUE_LIMIT_S = 120
MAX_CONNECTIONS = 32


class GuestServer(socketserver.ThreadingMixIn, HTTPServer):
    """The server; `address` is (host, port) for TCP and (cid, port) for vsock."""

    daemon_threads = True

    def __init__(self, address: tuple[Any, int], completer: Completer, *, is_vsock: bool) -> None:
        self.address_family = socket.AF_VSOCK if is_vsock else socket.AF_INET
        self.completer = completer
        self.generating = threading.Lock()
        self.connections = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, Handler)

    def server_bind(self) -> None:
        """Bind without HTTPServer's look-up of a host name, which vsock has not."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "rawgpt", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Close what exceeds the limit of open connections."""
        if self.connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection and free its place."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: GuestServer
    server_version, sys_version = "rawgpt", ""
    protocol_version = "HTTP/1.1"
    timeout = READ_LIMIT_S

    def do_GET(self) -> None:
        """Answer /health and /v1/models."""
        if self.path == "/health":
            self._send(200, {"status": "ok", "model": self.server.completer.name})
        elif self.path == "/v1/models":
            entry = {"id": self.server.completer.name, "object": "model", "owned_by": "rawgpt"}
            self._send(200, {"object": "list", "data": [entry]})
        else:
            self._fail(404, f"no such path: {self.path}")

    def do_POST(self) -> None:
        """Answer /v1/completions."""
        body = self._read_body()
        if body is None:
            return
        if self.path != "/v1/completions":
            self._fail(404, f"no such path: {self.path}")
            return
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            self._fail(400, "the body is not JSON")
            return
        try:
            request = self.server.completer.check(value)
        except BadRequest as error:
            self._fail(400, str(error), param=error.param, code=error.code)
            return
        if not self.server.generating.acquire(timeout=QUEUE_LIMIT_S):
            self._fail(503, "the model is busy; try again", kind="server_error")
            return
        try:
            answer = self.server.completer.complete(request)
        finally:
            self.server.generating.release()
        self._send(200, answer)

    def _read_body(self) -> bytes | None:
        """Return the body, or None after the error was sent."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._fail(411, "a Content-Length is needed")
        elif len(length) > 12 or int(length) > MAX_BODY_BYTES:
            self._discard(int(length) if len(length) <= 12 else MAX_DISCARDED_BYTES)
            self._fail(413, f"the body is larger than {MAX_BODY_BYTES} bytes")
        else:
            return self.rfile.read(int(length))
        return None

    def _discard(self, length: int) -> None:
        """Read a body that is refused: a client that still writes when we close loses the answer."""
        left = min(length, MAX_DISCARDED_BYTES)
        while left > 0 and (chunk := self.rfile.read(min(left, 2**16))):
            left -= len(chunk)

    def _fail(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        kind: str = "invalid_request_error",
    ) -> None:
        self.close_connection = True  # an unread body may follow
        error = {"message": message, "type": kind, "param": param, "code": code}
        self._send(status, {"error": error})

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer the library's own refusals (bad request line, unknown method) in OpenAI's shape too."""
        self._fail(code, message or explain or "bad request")

    def _send(self, status: int, value: dict[str, Any]) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        """Return the client's address; of vsock it is a number."""
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: a prompt must not leave the enclave through its console."""

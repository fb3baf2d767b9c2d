"""The end of a server: SIGTERM in a real process, and connections that send no request."""

import json
import signal
import socket
import time
from pathlib import Path

import httpx
import pytest

from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import save_tiny
from tests.serve.running_server import Running, exchange, running_server

KEY = "a-key-of-the-environment"


@pytest.fixture
def root(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """A model that goes on to its context of 8,192 tokens: longer than any of these tests."""
    config = ModelConfig(
        vocab_size=320, max_seq_len=8192, dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64
    )
    folder = tmp_path / "models/pretrain/checkpoint"
    save_tiny(folder, config, tokenizer, max_seq_len=8192, never_stops=True)
    return tmp_path


def request(path: str, body: dict[str, object] | None = None) -> bytes:
    """Return a request that closes its connection."""
    content = json.dumps(body).encode() if body is not None else b""
    head = f"{'POST' if body is not None else 'GET'} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    head += f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nConnection: close\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(content) + content


def stream(running: Running, max_tokens: int) -> socket.socket:
    """Open a stream and wait for its first event."""
    connection = socket.create_connection(running.address, timeout=60)
    body = {"prompt": [1], "max_tokens": max_tokens, "stream": True, "temperature": 0}
    connection.sendall(request("/v1/completions", body))
    seen = b""
    while b"data: " not in seen:
        seen += connection.recv(4096)
    assert b"200 OK" in seen
    return connection


def rest(connection: socket.socket) -> bytes:
    seen = b""
    while piece := connection.recv(65536):
        seen += piece
    connection.close()
    return seen


def test_running_answers_end_and_new_ones_are_refused(root: Path) -> None:
    """Guards: a SIGTERM that cuts streams, or a socket that is gone while they end. Past the limit what is
    left gets an error event and [DONE]. The key comes from the environment."""
    options = ["--drain", "3", "--max-running", "4"]
    with running_server(root, options, {"RAWGPT_API_KEYS": f" {KEY}, {KEY}-2"}) as running:
        assert exchange(running, request("/v1/models")).startswith(b"HTTP/1.1 200")
        keyless = exchange(running, request("/v1/models").replace(KEY.encode(), b"wrong"))
        assert keyless.startswith(b"HTTP/1.1 401")
        endless, short = stream(running, 8000), stream(running, 30)
        running.process.send_signal(signal.SIGTERM)
        refused = b""
        while not refused.startswith(b"HTTP/1.1 503"):  # the signal is on its way
            refused = exchange(running, request("/v1/completions", {"prompt": [1], "max_tokens": 1}))
        assert b"shutting_down" in refused
        assert b"retry-after" in refused.lower()
        assert exchange(running, request("/ready")).startswith(b"HTTP/1.1 503")
        assert exchange(running, request("/health")).startswith(b"HTTP/1.1 200")
        ended = rest(short)
        assert b'"finish_reason":"length"' in ended
        assert b"data: [DONE]" in ended
        cut = rest(endless)
        assert b'"code":"shutting_down"' in cut
        assert b"data: [DONE]" in cut
        assert b'"finish_reason":"length"' not in cut
        assert running.process.wait(timeout=60) == -signal.SIGTERM


def test_without_work_it_ends_at_once(root: Path) -> None:
    """Guards: a drain that waits for its limit though nothing runs, or for idle connections."""
    began = time.monotonic()
    with (
        running_server(root, ["--drain", "600"], {"RAWGPT_API_KEYS": KEY}) as running,
        httpx.Client(base_url=running.url, trust_env=False, timeout=60) as client,
    ):
        assert client.get("/ready").status_code == 200
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(timeout=120) == -signal.SIGTERM
    assert time.monotonic() - began < 300  # far from its 600 s

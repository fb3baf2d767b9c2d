"""Malformed requests by the thousand: no 5xx, one shape of error, and a server that answers right after."""

import json
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient

from gpt.catalog.open_model import OpenModel
from gpt.model.config import ModelConfig
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import save_tiny
from tests.serve.asgi_caller import alone
from tests.serve.malformed import malformed, nonsense
from tests.serve.running_server import Running, exchange, running_server

GOOD = {"prompt": "Shall I", "max_tokens": 4, "temperature": 0}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("nonsense")
    config = ModelConfig(
        vocab_size=320, max_seq_len=64, dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64
    )
    save_tiny(root / "models/pretrain/checkpoint", config, tokenizer)
    with running_server(root, []) as running:
        yield running


def send(client: TestClient, n: int, seed: int, expected: str) -> Counter[int]:
    """Send n requests; after every hundred a good one must get its answer."""
    statuses: Counter[int] = Counter()
    for i, request in enumerate(malformed(n, seed)):
        headers = {"content-type": request.content_type} if request.content_type else {}
        answer = client.post(request.path, content=request.content, headers=headers)
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, (request, answer.text)
        if answer.status_code != 200:
            error = answer.json()["error"]
            assert set(error) == {"message", "type", "param", "code"}
            assert error["type"] in ("invalid_request_error", "not_found_error"), (request, error)
        elif answer.headers["content-type"].startswith("text/event-stream"):
            *events, done = answer.text.strip().split("\n\n")
            assert done == "data: [DONE]"
            assert not any('"error"' in event for event in events), (request, answer.text)
        if i % 100 == 99:
            assert client.post("/v1/completions", json=GOOD).json()["choices"][0]["text"] == expected
            assert client.get("/health").status_code == 200
    return statuses


@pytest.mark.parametrize("n", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_malformed_requests(opened: OpenModel, n: int) -> None:
    """Guards: one request that is answered 500, kills the engine, or leaves a place taken behind."""
    app = create_app([opened], ServeConfig(max_body_bytes=20_000))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        statuses = send(client, n, seed=n, expected=alone(opened, "Shall I", max_tokens=4))
        assert statuses[400] > n / 2, statuses
        assert statuses[200] > n / 100, statuses  # or nothing went further than the parser
        (lane,) = app.state.engines.lanes.values()
        assert lane.n_taken == 0
        assert not lane.engine.has_work
        assert not app.state.engines.tickets


def test_a_million_spaces(opened: OpenModel) -> None:
    """Guards: the tokenizer's pattern, which runs out of stack on them, as a 500."""
    with TestClient(create_app([opened], ServeConfig()), base_url="http://127.0.0.1") as client:
        for prompt in (" " * 1_000_000, "a" * 1_000_000, [1] * 300_000):
            answer = client.post("/v1/completions", json={"prompt": prompt})
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == "context_length_exceeded"


def test_nonsense_on_a_bare_socket(server: Running) -> None:
    """Guards: bytes that are no HTTP, half requests, heads and lengths that lie: against a real process."""
    for raw in nonsense(120, seed=1):
        answer = exchange(server, raw, half_close=True)
        assert not answer or answer.startswith(b"HTTP/1.1 4"), (raw, answer)
    with httpx.Client(base_url=server.url, trust_env=False, timeout=60) as client:
        assert client.post("/v1/completions", json=GOOD).status_code == 200
        assert client.get("/health").status_code == 200
    assert server.process.poll() is None


def test_pipelined_requests_behind_a_refused_body(server: Running) -> None:
    """Guards: the rest of a refused body that is read as the next request (request smuggling)."""
    inner = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    head = b"POST /v1/completions HTTP/1.1\r\nHost: evil.example\r\nContent-Length: %d\r\n\r\n" % len(inner)
    answer = exchange(server, head + inner, half_close=True)
    assert answer.count(b"HTTP/1.1") == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "unknown_host"

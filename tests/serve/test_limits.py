"""What is refused by size and by time, before it reaches a model."""

import asyncio
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gpt.catalog.open_model import OpenModel
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig
from gpt.serve.limits import Limits

COMPLETE = "/v1/completions"


def client_of(opened: OpenModel, **limits: Any) -> TestClient:
    return TestClient(create_app([opened], ServeConfig(**limits)), base_url="http://127.0.0.1")


def test_prompt_tokens_and_max_tokens(opened: OpenModel) -> None:
    """Guards: a limit that is set and not kept, or that a chat walks around."""
    client = client_of(opened, max_prompt_tokens=5, max_tokens=3, max_choices=2)
    assert client.post(COMPLETE, json={"prompt": [1] * 5, "max_tokens": 3}).status_code == 200
    long = client.post(COMPLETE, json={"prompt": [[1], [1] * 6], "max_tokens": 3}).json()["error"]
    assert (long["code"], long["param"]) == ("context_length_exceeded", "prompt")
    assert "6 tokens do not fit this server's limit of 5" in long["message"]
    much = client.post(COMPLETE, json={"prompt": [1], "max_tokens": 4}).json()["error"]
    assert (much["code"], much["param"]) == ("too_many_tokens", "max_tokens")
    hello = {"messages": [{"role": "user", "content": "h"}], "temperature": 0}
    answer = client.post("/v1/chat/completions", json={**hello, "max_completion_tokens": 4})
    assert answer.json()["error"]["code"] == "too_many_tokens"
    silent = client.post("/v1/chat/completions", json=hello)
    assert silent.json()["usage"]["completion_tokens"] <= 3
    many = client.post(COMPLETE, json={"prompt": [[1], [2]], "n": 2, "max_tokens": 1}).json()["error"]
    assert (many["code"], many["param"]) == ("too_many_choices", "n")


def test_a_long_head(opened: OpenModel) -> None:
    """Guards: headers without an end; the path counts too."""
    client = client_of(opened, max_header_bytes=2000)
    for path, headers in (("/health", {"X": "a" * 2000}), ("/health?" + "a" * 2000, {})):
        answer = client.get(path, headers=headers)
        assert answer.status_code == 431
        assert answer.json()["error"]["code"] == "head_too_long"
    assert client.get("/health", headers={"X": "a" * 1000}).status_code == 200


@pytest.mark.parametrize("n_bytes", [0, 3])
def test_a_slow_body(n_bytes: int) -> None:
    """Guards: a slowloris: a body that never ends holds its connection for ever."""

    async def scene() -> list[Any]:
        sent: list[Any] = []
        pieces = iter([{"type": "http.request", "body": b"x" * n_bytes, "more_body": True}])

        async def receive() -> Any:
            return next(pieces, None) or await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        async def never(*args: Any) -> None:
            raise AssertionError("half a body reached the application")

        headers = [(b"host", b"localhost")]
        scope = {"type": "http", "headers": headers, "query_string": b"", "raw_path": b"/", "method": "POST"}
        limits = Limits(never, ServeConfig(body_timeout_s=0.05))
        await asyncio.wait_for(limits(scope, receive, send), 30)
        return sent

    head, _ = asyncio.run(scene())
    assert head["status"] == 408
    assert (b"connection", b"close") in head["headers"]


@pytest.mark.parametrize(
    ("dials", "words"),
    [
        ({"max_body_bytes": 0}, "max_body_bytes: at least 1 is needed, got 0"),
        ({"max_running": 0}, "max_running: at least 1"),
        ({"max_tokens": 0}, "max_tokens: at least 1"),
        ({"max_waiting": -1}, "max_waiting: 0 or more"),
        ({"body_timeout_s": 0}, "body_timeout_s: more than 0"),
        ({"request_timeout_s": float("nan")}, "request_timeout_s: more than 0"),
        ({"drain_s": -1}, "drain_s: 0 seconds or more"),
        ({"allowed_hosts": ()}, "allowed_hosts: it is empty"),
    ],
)
def test_dials_that_cannot_be(dials: dict[str, Any], words: str) -> None:
    """Guards: a limit that lets nothing in, or everything."""
    with pytest.raises(ValueError, match=words):
        ServeConfig(**dials)

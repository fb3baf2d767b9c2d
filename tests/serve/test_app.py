"""The routes and the shape of every error."""

import json
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient
from httpx import Response

from gpt.catalog.open_model import OpenModel
from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import generate_text
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig

COMPLETE, CHAT = "/v1/completions", "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hi"}]


def ask(client: TestClient, **body: Any) -> dict[str, Any]:
    """POST a completion that must succeed."""
    answer = client.post(COMPLETE, json={"model": "pretrain", "prompt": "Shall I", **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def events_of(answer: Response) -> list[dict[str, Any]]:
    """Return a stream's JSON events; it must end with [DONE]."""
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_health_ready_models(client: TestClient, opened: OpenModel) -> None:
    """A readiness that never touches the model."""
    assert client.get("/health").json() == {"status": "ok"}
    assert client.get("/ready").json()["status"] == "ready"
    (card,) = client.get("/v1/models").json()["data"]
    assert (card["id"], card["object"], card["sha256"]) == ("pretrain", "model", opened.sha256)
    assert client.get("/v1/models/pretrain").json() == card
    torch.nn.init.constant_(opened.model.embed.weight, torch.nan)
    broken = client.get("/ready")
    assert broken.status_code == 503
    assert broken.json()["error"]["code"] == "not_ready"


def test_completion_equals_the_engine(client: TestClient, opened: OpenModel) -> None:
    """A dial dropped between the schema and the sampler."""
    dials = {"temperature": 0.7, "top_p": 0.9, "top_k": 40, "min_p": 0.01, "repetition_penalty": 1.2}
    body = ask(client, max_tokens=12, seed=5, **dials)
    sampling = SamplingConfig(max_tokens=12, seed=5, **dials)  # type: ignore[arg-type]
    prompt_ids = opened.tokenizer.encode("Shall I")
    pieces = list(generate_text(opened.model, opened.tokenizer, prompt_ids, sampling))
    (choice,) = body["choices"]
    assert choice["text"] == "".join(piece.text for piece in pieces)
    assert choice["finish_reason"] == pieces[-1].finish_reason
    assert body["usage"] == {
        "prompt_tokens": len(prompt_ids),
        "completion_tokens": pieces[-1].n_tokens,
        "total_tokens": len(prompt_ids) + pieces[-1].n_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    assert ask(client, prompt=prompt_ids, max_tokens=12, seed=5, **dials)["choices"] == body["choices"]
    other = ask(client, max_tokens=12, seed=6, **dials)
    assert other["choices"] != body["choices"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_stream_says_the_same_as_the_whole(client: TestClient, seed: int) -> None:
    """Text, logprobs, reason or usage that differ once streamed."""
    body = {"prompt": "Shall I", "max_tokens": 20, "seed": seed, "logprobs": 2, "stop": "e"}
    whole = ask(client, **body)
    options = {"stream": True, "stream_options": {"include_usage": True}}
    *chunks, last = events_of(client.post(COMPLETE, json={**body, **options}))
    assert last["choices"] == []
    assert last["usage"] == whole["usage"]
    choices = [chunk["choices"][0] for chunk in chunks]
    assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    reasons = [choice["finish_reason"] for choice in choices]
    assert reasons == [None] * (len(choices) - 1) + [whole["choices"][0]["finish_reason"]]
    for key, expected in whole["choices"][0]["logprobs"].items():
        assert [entry for choice in choices for entry in choice["logprobs"][key]] == expected


def test_logprobs_join_to_the_text(client: TestClient) -> None:
    """Offsets that do not point at their token."""
    choice = ask(client, max_tokens=20, seed=4, logprobs=2)["choices"][0]
    logprobs, text = choice["logprobs"], choice["text"]
    lengths = {len(entries) for entries in logprobs.values()}
    assert len(lengths) == 1
    columns = (logprobs[key] for key in ("tokens", "text_offset", "token_logprobs", "top_logprobs"))
    for token, offset, chosen, top in zip(*columns, strict=True):
        assert token.startswith("bytes:") or text[offset:].startswith(token)
        assert top[token] == chosen <= 0
        assert len(top) >= 2


def test_stop_text_is_not_returned(client: TestClient) -> None:
    """`stop` as a string and as a list, and a finish_reason that says so."""
    text = ask(client, max_tokens=30, temperature=0)["choices"][0]["text"]
    stop = text[4:6]
    for value in (stop, [stop, "never, never"]):
        (choice,) = ask(client, max_tokens=30, temperature=0, stop=value)["choices"]
        assert choice["text"] == text[: text.index(stop)]
        assert choice["finish_reason"] == "stop"


def test_chat_whole_and_streamed(client: TestClient) -> None:
    """A first chunk without a role; a default max_tokens that is not the context."""
    body = {"messages": HELLO, "seed": 1, "logprobs": True, "top_logprobs": 2}
    whole = client.post(CHAT, json=body).json()
    (choice,) = whole["choices"]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length")
    assert all(len(entry["top_logprobs"]) == 2 for entry in choice["logprobs"]["content"])
    chunks = [event["choices"][0] for event in events_of(client.post(CHAT, json={**body, "stream": True}))]
    assert chunks[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(c["delta"].get("content", "") for c in chunks) == choice["message"]["content"]
    assert chunks[-1]["finish_reason"] == choice["finish_reason"]
    short = client.post(CHAT, json={"messages": HELLO, "seed": 1, "max_completion_tokens": 2}).json()
    assert short["usage"]["completion_tokens"] <= 2


def test_the_server_s_limit_holds_for_who_names_none(opened: OpenModel) -> None:
    """Guards: `--max-tokens 8` and 16 tokens for a completion, the context for a chat, that ask for none."""
    app = create_app([opened], ServeConfig(max_tokens=3))
    with TestClient(app, base_url="http://127.0.0.1") as client:
        for path, body in ((COMPLETE, {"prompt": "Shall I"}), (CHAT, {"messages": HELLO})):
            for seed in range(4):
                usage = client.post(path, json={**body, "seed": seed}).json()["usage"]
                assert usage["completion_tokens"] <= 3, path
        refused = client.post(COMPLETE, json={"prompt": "a", "max_tokens": 4})
        assert refused.json()["error"]["code"] == "too_many_tokens"


def test_context_overflow(client: TestClient) -> None:
    """A prompt that is longer than the context, cut in silence."""
    for path, body in ((COMPLETE, {"prompt": [1] * 65}), (CHAT, {"messages": HELLO * 40})):
        answer = client.post(path, json=body)
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert "the context of 64" in answer.json()["error"]["message"]
    full = ask(client, prompt=[1] * 64, max_tokens=100)
    assert full["choices"][0]["finish_reason"] in ("length", "stop")
    assert full["usage"]["completion_tokens"] == 1


def test_unknown_model_path_and_method(client: TestClient) -> None:
    """HTML or {"detail": ...} where a client reads error.message."""
    cases = [
        (client.post(COMPLETE, json={"model": "gpt-9", "prompt": "a"}), 404, "model_not_found"),
        (client.get("/v1/models/..%2f..%2fetc"), 404, None),
        (client.get("/v1/models/gpt-9"), 404, "model_not_found"),
        (client.get("/v2/nothing"), 404, "unknown_path"),
        (client.get(COMPLETE), 405, "method_not_allowed"),
    ]
    for answer, status, code in cases:
        assert answer.status_code == status
        error = answer.json()["error"]
        assert code is None or error["code"] == code
        assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")


def test_body_limit_with_and_without_a_length(client: TestClient) -> None:
    """A chunked body that nobody counts."""
    long = json.dumps({"prompt": "a" * 4000}).encode()
    for content in (long, iter([long[:2000], long[2000:]])):
        answer = client.post(COMPLETE, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "body_too_long"


def test_a_foreign_host_is_refused(client: TestClient) -> None:
    """A web page that reaches a loopback server under a name of its own (DNS rebinding)."""
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", ""):
        answer = client.get("/v1/models", headers={"host": host})
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "unknown_host"
    for host in ("127.0.0.1:8000", "localhost", "[::1]:8000"):
        assert client.get("/health", headers={"host": host}).status_code == 200


def test_a_fault_is_a_500_and_says_nothing_of_the_inside(client: TestClient, opened: OpenModel) -> None:
    """A stack trace for the client; in a stream, a hang for want of [DONE]."""
    torch.nn.init.constant_(opened.model.embed.weight, torch.nan)
    answer = client.post(COMPLETE, json={"prompt": "a"})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "finite" not in answer.text
    (event,) = events_of(client.post(COMPLETE, json={"prompt": "a", "stream": True}))
    assert event["error"]["code"] == "internal_error"
    torch.nn.init.normal_(opened.model.embed.weight)
    ask(client, max_tokens=1)  # its place in the queue is free again

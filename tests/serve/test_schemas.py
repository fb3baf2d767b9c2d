"""gpt/serve/schemas.py through the routes: what is let in, and what is refused by its name."""

import json
from typing import Any

import pytest
from fastapi.testclient import TestClient

from gpt.serve.schemas import UNSUPPORTED, Message
from gpt.tokenizer.special_tokens import ROLES

COMPLETE, CHAT = "/v1/completions", "/v1/chat/completions"
HELLO = [{"role": "user", "content": "hi"}]
JSON = {"content-type": "application/json"}


def test_chats_in_other_words(client: TestClient) -> None:
    """Guards: a client's own form of a message that is refused, or read as something else."""

    def said(**turn: Any) -> Any:
        answer = client.post(CHAT, json={"messages": [turn, *HELLO], "max_tokens": 8, "temperature": 0})
        assert answer.status_code == 200, answer.text
        return answer.json()["usage"]["prompt_tokens"], answer.json()["choices"]

    system = said(role="system", content="Be kind.")
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "kind."}]
    assert said(role="developer", content="Be kind.") == system
    assert said(role="system", content=parts) == system
    assert said(role="system", content="Be kind.", name=None, refusal=None, tool_calls=[]) == system
    assert said(role="user", content="Be kind.") != system


def test_roles_are_the_tokenizers() -> None:
    """A role that the schema lets in and the template refuses."""
    assert set(Message.model_json_schema()["properties"]["role"]["enum"]) == set(ROLES)


def test_neutral_values_of_unsupported_keys_are_let_in(client: TestClient) -> None:
    """Clients send OpenAI's defaults; refusing those refuses the clients."""
    neutral = {"user": "me", "stop": None, "seed": None, "parallel_tool_calls": True, **UNSUPPORTED}
    answer = client.post(COMPLETE, json={"prompt": "a", "max_tokens": 1, **neutral})
    assert answer.status_code == 200, answer.text
    for key in UNSUPPORTED:
        refused = client.post(COMPLETE, json={"prompt": "a", key: "something"})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, key)


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "prompt", "Field required"),
        ({"prompt": 3}, "prompt", "a list of token ids"),
        ({"prompt": ["a", 1]}, "prompt", "a list of token ids"),
        ({"prompt": [[1], "a"]}, "prompt", "a list of token ids"),
        ({"prompt": [[1], [1.0]]}, "prompt", "a list of token ids"),
        ({"prompt": [True]}, "prompt", "a list of token ids"),
        ({"prompt": []}, "prompt", "it is empty"),
        ({"prompt": [[1], []]}, "prompt", "it is empty"),
        ({"prompt": [[1], [-1]], "echo": True}, "prompt", "token id -1 is outside 0..319"),
        ({"prompt": ["a", "\x00"], "n": 17}, "n", "2 prompts with 17 texts each are more than 32"),
        ({"prompt": [320]}, "prompt", "token id 320 is outside 0..319"),
        ({"prompt": "a", "max_tokens": 0}, "max_tokens", "at least 1"),
        ({"prompt": "a", "max_tokens": "7"}, "max_tokens", "valid integer"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens", "valid integer"),
        ({"prompt": "a", "temperature": -1}, "temperature", "got -1.0"),
        ({"prompt": "a", "top_p": 0}, "top_p", "0 < top_p <= 1"),
        ({"prompt": "a", "temperature": -5, "echo": True, "max_tokens": 0}, "temperature", "got -5.0"),
        ({"prompt": "a", "top_p": 7, "echo": True, "max_tokens": 0}, "top_p", "0 < top_p <= 1"),
        ({"prompt": "a", "seed": 2**70}, "seed", "64-bit"),
        ({"prompt": "a", "logprobs": 21}, "logprobs", "less than or equal to 20"),
        ({"prompt": "a", "stop": ["a"] * 5}, "stop", "at most 4"),
        ({"prompt": "a", "stop": ""}, "stop", "1..256 characters"),
        ({"prompt": "a", "stop": [1]}, "stop", "a string or a list of strings"),
        ({"prompt": "a", "n": 10**9}, "n", "more than 32"),
        ({"prompt": "a", "n": 0}, "n", "greater than or equal to 1"),
        ({"prompt": "a", "n": 2, "best_of": 3}, "best_of", "got 3"),
        ({"prompt": "a", "max_tokens": -1, "echo": True}, "max_tokens", "at least 1"),
        ({"prompt": "a", "suffix": "b"}, "suffix", "does not support it"),
        ({"prompt": "a", "logit_bias": {"5": 1}}, "logit_bias", "does not support it"),
        ({"prompt": "a", "tempreature": 1}, "tempreature", "unknown key"),
        ([1, 2], None, "must be a JSON object"),
    ],
)
def test_bad_requests(client: TestClient, body: Any, param: str | None, words: str) -> None:
    """422 with FastAPI's own shape, or a 500; streaming must not change it."""
    bodies = [body, {**body, "stream": True}] if isinstance(body, dict) else [body]
    for sent in bodies:
        answer = client.post(COMPLETE, json=sent)
        assert answer.status_code == 400, answer.text
        error = answer.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert error["param"] == param
        assert words in error["message"]
        assert error["message"].count("\n") == 0


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "at least 1 item"),
        ("hi", "valid list"),
        ([{"role": "tool", "content": "x"}], "messages.0.role"),
        ([{"role": "user"}], "messages.0.content: Field required"),
        ([{"role": "user", "content": [{"type": "text"}]}], "messages.0.content"),
        ([{"role": "user", "content": ["a"]}], 'messages.0.content: a string or a list of {"type": "text"'),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], "type 'image_url'"),
        ([{"role": "user", "content": [{"type": "text", "text": "\ud800"}]}], "half a surrogate pair"),
        ([{"role": "user", "content": "a", "name": "Ann"}], "messages.0: name: no model here is shown it"),
        ([{"role": "assistant", "content": "a", "tool_calls": [{}]}], "messages.0: tool_calls: this server"),
        ([{"role": "user", "content": "a", "refusal": "no"}], "messages.0.refusal: unknown key"),
        ([{"role": "user", "content": None}], "messages.0.content: Field required"),
    ],
)
def test_bad_chats(client: TestClient, messages: Any, words: str) -> None:
    """The same for the nested keys of a chat."""
    content = json.dumps({"messages": messages})  # httpx's own JSON would refuse half a surrogate pair
    answer = client.post(CHAT, content=content, headers=JSON)
    assert answer.status_code == 400
    assert words in answer.json()["error"]["message"]
    assert answer.json()["error"]["param"] == "messages"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"prompt": "a", "temperature": NaN}',
        b'{"prompt": "a", "temperature": 1e309}',
        b'{"prompt": "\\ud800"}',
        b"[" * 3000,
        b'{"prompt": "a", "stop": "\\ud800"}',
        b'{"prompt": "a", "seed": ' + b"9" * 3000 + b"}",
    ],
)
def test_broken_json(client: TestClient, raw: bytes) -> None:
    """Bodies that reach the arithmetic, or a 500 out of the parser."""
    answer = client.post(COMPLETE, content=raw, headers=JSON)
    assert answer.status_code == 400, answer.text
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

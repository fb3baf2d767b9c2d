"""Several texts of one request: n, lists of prompts, echo, seeds, usage."""

import json
import math
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from gpt.catalog.open_model import OpenModel
from tests.serve.asgi_caller import alone
from tests.tolerances import TOLERANCE

COMPLETE, CHAT = "/v1/completions", "/v1/chat/completions"
DRAWN = {"temperature": 0.9, "max_tokens": 10}


def ask(client: TestClient, path: str = COMPLETE, **body: Any) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def texts(body: dict[str, Any]) -> list[str]:
    assert [choice["index"] for choice in body["choices"]] == list(range(len(body["choices"])))
    return [choice["text"] for choice in body["choices"]]


def events_of(client: TestClient, path: str = COMPLETE, **body: Any) -> list[dict[str, Any]]:
    answer = client.post(path, json={**body, "stream": True, "stream_options": {"include_usage": True}})
    assert answer.status_code == 200, answer.text
    *lines, done = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert done == "[DONE]"
    return [json.loads(line) for line in lines]


def test_text_j_is_drawn_with_seed_plus_j(client: TestClient, opened: OpenModel) -> None:
    """Guards: n texts that are one text n times, and a text that cannot be had again alone."""
    body = ask(client, prompt="Shall I", n=3, seed=7, **DRAWN)
    assert texts(body) == [alone(opened, "Shall I", **DRAWN, seed=7 + j) for j in range(3)]
    assert len(set(texts(body))) == 3
    n_prompt = len(opened.tokenizer.encode("Shall I"))
    assert body["usage"]["prompt_tokens"] == n_prompt
    assert body["usage"]["total_tokens"] == n_prompt + body["usage"]["completion_tokens"]
    last = ask(client, prompt="Shall I", n=2, seed=2**63 - 1, **DRAWN)
    assert texts(last)[1] == alone(opened, "Shall I", **DRAWN, seed=-(2**63))


@pytest.mark.parametrize("prompts", [["Shall I", "Rough", ""], [[1, 2], [3], [319]]])
def test_a_list_of_prompts_is_each_prompt_alone(client: TestClient, opened: OpenModel, prompts: Any) -> None:
    """Guards: choices in the order of arrival; seeds that depend on the place in the list. Choice i continues
    prompt i // n."""
    body = ask(client, prompt=prompts, n=2, seed=1, **DRAWN)
    starts = [prompt or [opened.tokenizer.end_of_text] for prompt in prompts]
    assert texts(body) == [alone(opened, start, **DRAWN, seed=1 + j) for start in starts for j in range(2)]
    ids = [opened.tokenizer.encode(start) if isinstance(start, str) else start for start in starts]
    assert body["usage"]["prompt_tokens"] == sum(map(len, ids))


def test_streamed_choices_are_the_whole_ones(client: TestClient) -> None:
    """Guards: pieces under the wrong index; a choice without its last chunk; a usage of one choice."""
    asked = {"prompt": ["Shall I", "Rough"], "n": 2, "seed": 3, "echo": True, "logprobs": 1, **DRAWN}
    whole = ask(client, **asked)
    *chunks, last = events_of(client, **asked)
    assert last["usage"] == whole["usage"]
    for choice in whole["choices"]:
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert "".join(chunk["text"] for chunk in own) == choice["text"]
        assert [chunk["finish_reason"] for chunk in own[:-1]] == [None] * (len(own) - 1)
        assert own[-1]["finish_reason"] == choice["finish_reason"]
        for key, entries in choice["logprobs"].items():
            assert [entry for chunk in own for entry in chunk["logprobs"][key]] == entries


def test_chat_choices(client: TestClient) -> None:
    """Guards: n in a chat: roles, indices, texts whole and streamed."""
    asked = {"messages": [{"role": "user", "content": "hi"}], "n": 2, "seed": 3, **DRAWN}
    whole = ask(client, CHAT, **asked)
    *chunks, last = events_of(client, CHAT, **asked)
    assert last["usage"] == whole["usage"]
    for choice in whole["choices"]:
        own = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == choice["index"]]
        assert own[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(chunk["delta"].get("content", "") for chunk in own) == choice["message"]["content"]
    assert whole["choices"][0]["message"] != whole["choices"][1]["message"]


def test_echo_and_nothing_more(client: TestClient, opened: OpenModel) -> None:
    """Guards: the request that crashed others' engines: echo with max_tokens 0 (lm-eval's). Its logprobs are
    the model's own, position for position."""
    prompt = "Shall I compare thee é"
    asked = {"prompt": prompt, "echo": True, "max_tokens": 0, "logprobs": 2}
    body = ask(client, **asked)
    (choice,) = body["choices"]
    assert (choice["text"], choice["finish_reason"]) == (prompt, "length")
    ids = opened.tokenizer.encode(prompt)
    assert body["usage"] == {
        "prompt_tokens": len(ids),
        "completion_tokens": 0,
        "total_tokens": len(ids),
    }
    first, *rest = choice["logprobs"]["token_logprobs"]
    assert first is None
    assert choice["logprobs"]["top_logprobs"][0] is None
    with torch.inference_mode():
        logprobs = opened.model(torch.tensor([ids]))[0].log_softmax(-1)
    expected = [float(logprobs[i, token_id]) for i, token_id in enumerate(ids[1:])]
    assert rest == pytest.approx(expected, abs=TOLERANCE["logits_cached_vs_uncached"])
    assert len(choice["logprobs"]["tokens"]) == len(ids)
    offsets = choice["logprobs"]["text_offset"]
    for token, offset in zip(choice["logprobs"]["tokens"], offsets, strict=True):
        assert token.startswith("bytes:") or prompt[offset:].startswith(token)
    *chunks, last = events_of(client, **asked)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == prompt
    assert last["usage"] == body["usage"]
    (empty,) = ask(client, prompt="", echo=True, max_tokens=0, logprobs=0)["choices"]
    assert (empty["text"], empty["logprobs"]["tokens"]) == ("", [])


def test_echo_in_front_of_a_text(client: TestClient, opened: OpenModel) -> None:
    """Guards: offsets that count from the text's own beginning; a prompt that is echoed once of n."""
    body = ask(client, prompt="Shall I", echo=True, n=2, seed=5, logprobs=0, **DRAWN)
    for j, choice in enumerate(body["choices"]):
        assert choice["text"] == "Shall I" + alone(opened, "Shall I", **DRAWN, seed=5 + j)
        logprobs = choice["logprobs"]
        for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
            assert token.startswith("bytes:") or choice["text"][offset:].startswith(token)
        assert all(math.isfinite(p) for p in logprobs["token_logprobs"][1:])

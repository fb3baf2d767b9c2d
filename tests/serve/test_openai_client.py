"""A real server process on the loopback address, asked by OpenAI's own client and by a bare socket."""

import socket
import time
from collections.abc import Iterator

import openai
import pytest

from gpt.model.config import ModelConfig
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import save_tiny
from tests.serve.running_server import running_server

START_LIMIT_S = 90


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Iterator[str]:
    """`rawgpt serve` in a process of its own, on a free port; ended by its id."""
    root = tmp_path_factory.mktemp("served")
    config = ModelConfig(
        vocab_size=320, max_seq_len=2048, dim=32, n_layers=2, n_heads=4, n_kv_heads=2, ffn_dim=64
    )
    save_tiny(root / "models/pretrain/checkpoint", config, tokenizer, max_seq_len=2048, never_stops=True)
    with running_server(root, ["--max-running", "1", "--max-waiting", "0"]) as running:
        yield running.url


@pytest.fixture
def client(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[openai.OpenAI]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60) as client:
        yield client


def test_completions(client: openai.OpenAI) -> None:
    """A field that OpenAI's client cannot parse; a stream that never ends."""
    assert [model.id for model in client.models.list()] == ["pretrain"]
    whole = client.completions.create(
        model="pretrain", prompt="Shall I", max_tokens=12, seed=1, logprobs=2, temperature=0.9
    )
    choice = whole.choices[0]
    assert choice.finish_reason in ("stop", "length")
    assert choice.logprobs is not None
    assert whole.usage is not None
    assert whole.usage.completion_tokens <= 12
    stream = client.completions.create(
        model="pretrain",
        prompt="Shall I",
        max_tokens=12,
        seed=1,
        temperature=0.9,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == choice.text
    assert chunks[-1].usage == whole.usage


def test_chat(client: openai.OpenAI) -> None:
    """The same of a chat."""
    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "hi"}]
    whole = client.chat.completions.create(model="pretrain", messages=messages, max_tokens=9, seed=2)  # type: ignore[arg-type]
    assert whole.choices[0].message.role == "assistant"
    stream = client.chat.completions.create(
        model="pretrain",
        messages=messages,  # type: ignore[arg-type]
        max_tokens=9,
        seed=2,
        stream=True,
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    assert text == whole.choices[0].message.content


def test_a_chat_of_several_turns(client: openai.OpenAI) -> None:
    """The loop of every tutorial: an answer's message goes back as it came, keys that are null included."""
    messages: list[object] = [{"role": "user", "content": "hi"}]
    asked = {"model": "pretrain", "max_tokens": 5, "seed": 2}
    first = client.chat.completions.create(messages=messages, **asked)  # type: ignore[call-overload]
    messages += [first.choices[0].message, {"role": "user", "content": "and"}]
    second = client.chat.completions.create(messages=messages, **asked)  # type: ignore[call-overload]
    plain = [{"role": "assistant", "content": first.choices[0].message.content}]
    again = client.chat.completions.create(messages=[messages[0], *plain, messages[2]], **asked)  # type: ignore[call-overload]
    assert second.choices == again.choices
    assert second.usage.prompt_tokens == again.usage.prompt_tokens > first.usage.prompt_tokens


def test_several_texts(client: openai.OpenAI) -> None:
    """The same of n: choices by index, whole and streamed, in both shapes."""
    asked = {"model": "pretrain", "max_tokens": 6, "seed": 3, "n": 3}
    whole = client.completions.create(prompt=["Shall I", "Rough"], **asked)  # type: ignore[call-overload]
    assert [choice.index for choice in whole.choices] == list(range(6))
    said = dict.fromkeys(range(6), "")
    for chunk in client.completions.create(prompt=["Shall I", "Rough"], stream=True, **asked):  # type: ignore[call-overload]
        for choice in chunk.choices:
            said[choice.index] += choice.text
    assert said == {choice.index: choice.text for choice in whole.choices}
    assert whole.usage is not None
    assert whole.usage.prompt_tokens_details is not None
    echoed = client.completions.create(
        model="pretrain", prompt="Shall I", echo=True, max_tokens=0, logprobs=1
    )
    assert echoed.choices[0].text == "Shall I"
    messages = [{"role": "user", "content": "hi"}]
    turns = client.chat.completions.create(messages=messages, **asked)  # type: ignore[call-overload]
    assert [choice.index for choice in turns.choices] == [0, 1, 2]
    words = dict.fromkeys(range(3), "")
    for chunk in client.chat.completions.create(messages=messages, stream=True, **asked):  # type: ignore[call-overload]
        for choice in chunk.choices:
            words[choice.index] += choice.delta.content or ""
    assert words == {choice.index: choice.message.content for choice in turns.choices}


def test_errors_are_the_clients_own(client: openai.OpenAI) -> None:
    """Errors that arrive as APIError without a message."""
    with pytest.raises(openai.BadRequestError, match="temperature") as bad:
        client.completions.create(model="pretrain", prompt="a", temperature=-1)
    assert (bad.value.code, bad.value.param) == ("invalid_value", "temperature")
    with pytest.raises(openai.NotFoundError, match="gpt-9") as missing:
        client.completions.create(model="gpt-9", prompt="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="context of 2048"):
        client.completions.create(model="pretrain", prompt=[1] * 2049)


def test_a_cut_connection_frees_the_place(client: openai.OpenAI, url: str) -> None:
    """uvicorn's disconnect that nobody listens to: with no place to wait, the next is refused for long."""
    host, _, port = url.removeprefix("http://").partition(":")
    body = b'{"prompt": [1], "max_tokens": 2000, "stream": true, "temperature": 0}'
    head = f"POST /v1/completions HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    deadline = time.monotonic() + START_LIMIT_S
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        seen = b""
        while b"data: " not in seen:
            seen += raw.recv(4096)
        assert b"200 OK" in seen
        with pytest.raises(openai.RateLimitError) as busy:
            client.completions.create(model="pretrain", prompt="a", max_tokens=1)
        assert busy.value.response.headers["retry-after"] == "1"
    while True:
        try:
            client.completions.create(model="pretrain", prompt="a", max_tokens=1)
            break
        except openai.RateLimitError:
            assert time.monotonic() < deadline, "the place was never freed"
            time.sleep(0.05)

"""`echo` in the queue: its passes through the model have places, limits and an end as every text has."""

import asyncio
import threading
from collections.abc import Iterator, Sequence

import pytest

from gpt.catalog.open_model import OpenModel
from gpt.serve import app as app_module
from gpt.serve.echo import Echo
from tests.serve.asgi_caller import LIMIT_S, Caller, serving, until

ECHO = {"echo": True, "max_tokens": 0, "logprobs": 1}


class SlowEchoes:
    """Echoes that hold the engines' thread until they are let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.begun: list[str] = []

    def __call__(self, opened: OpenModel, prompt_ids: Sequence[int], n_alternatives: int | None) -> Echo:
        """Stand in for echo_of."""
        text = opened.tokenizer.decode(prompt_ids)
        self.begun.append(text)
        assert self.go_on.wait(LIMIT_S)
        return Echo(text=text, tokens=())


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowEchoes]:
    """The server's echoes, slowed down."""
    echoes = SlowEchoes()
    monkeypatch.setattr(app_module, "echo_of", echoes)
    yield echoes
    echoes.go_on.set()


def test_echoes_take_places(endless: OpenModel, slow: SlowEchoes) -> None:
    """Guards: echoes without a queue: never 429, unknown to the drain, and places that are not given back."""

    async def scene() -> None:
        async with serving(endless, max_running=1, max_waiting=1, retry_after_s=3) as app:
            engines = app.state.engines
            two = [Caller(app, prompt=prompt, **ECHO) for prompt in ("a", "b")]
            await until(lambda: slow.begun and engines.lanes["endless"].n_taken == 2)
            for refused in (Caller(app, **ECHO), Caller(app, stream=True, **ECHO), Caller(app, max_tokens=1)):
                await refused.end()
                assert refused.status == 429
                assert refused.header[b"retry-after"] == b"3"
            assert len(engines.tickets) == 2
            slow.go_on.set()
            for caller, prompt in zip(two, "ab", strict=True):
                await caller.end()
                assert caller.json["choices"][0]["text"] == prompt
            both = Caller(app, prompt="c", stream=True, **ECHO | {"max_tokens": 3})
            await both.end()
            assert both.text.startswith("c")
            assert engines.lanes["endless"].n_taken == 0
            assert not engines.tickets

    asyncio.run(scene())


@pytest.mark.parametrize("stream", [True, False])
def test_nothing_is_echoed_for_nobody(endless: OpenModel, slow: SlowEchoes, stream: bool) -> None:
    """Guards: 32 passes through the model for a client that has left, and a place that it keeps."""

    async def scene() -> None:
        async with serving(endless, max_running=1, max_waiting=0) as app:
            left = Caller(app, prompt=["a", "b", "c"], stream=stream, **ECHO)
            await until(lambda: slow.begun)
            await left.leave()
            assert app.state.engines.lanes["endless"].n_taken == 0
            slow.go_on.set()
            after = Caller(app, prompt="d", **ECHO)
            await after.end()
            assert after.status == 200
            assert slow.begun == ["a", "d"]

    asyncio.run(scene())


def test_an_echo_has_a_time_limit(endless: OpenModel, slow: SlowEchoes) -> None:
    """Guards: a request timeout that begins behind the echoes, or never."""

    async def scene() -> None:
        async with serving(endless, request_timeout_s=0.05) as app:
            late = Caller(app, prompt=["a", "b"], **ECHO)
            await late.end()
            assert (late.status, late.json["error"]["code"]) == (504, "timeout")
            assert app.state.engines.lanes["endless"].n_taken == 0
            slow.go_on.set()
            await app.state.engines.call("endless", lambda opened: None)
            assert slow.begun == ["a"]

    asyncio.run(scene())


def test_the_end_of_a_drain_ends_echoes(endless: OpenModel, slow: SlowEchoes) -> None:
    """Guards: a server that goes on to echo a list of prompts past its drain's limit."""

    async def scene() -> None:
        async with serving(endless) as app:
            cut = Caller(app, prompt=["a", "b"], **ECHO)
            await until(lambda: slow.begun)
            app.state.drain.begin()
            assert not app.state.drain.is_over()
            app.state.engines.cut()
            slow.go_on.set()
            await cut.end()
            assert (cut.status, cut.json["error"]["code"]) == (503, "shutting_down")
            assert slow.begun == ["a"]
            assert app.state.drain.is_over()

    asyncio.run(scene())

"""Many requests through one thread: load, clients that leave, a full queue, faults, a dead thread."""

import asyncio
import threading
from itertools import pairwise
from typing import Any

import pytest
import torch

from gpt.catalog.open_model import OpenModel
from gpt.serve.engine_thread import EngineThread
from tests.serve.asgi_caller import Caller, alone, serving, until

LONG = {"max_tokens": 2000, "temperature": 0}


def engine_of(app: Any) -> Any:
    (lane,) = app.state.engines.lanes.values()
    return lane.engine


def n_inside(app: Any) -> int:
    return len(engine_of(app).running) + len(engine_of(app).waiting)


def test_many_at_once_say_what_each_says_alone(endless: OpenModel) -> None:
    """Guards: a text that depends on its neighbours: greedy and drawn, whole and streamed, with more texts
    than places, so that they come and go."""
    asked: list[dict[str, Any]] = [
        {"prompt": [i + 1] * (1 + i % 5), "max_tokens": 5 + i, "seed": i, "temperature": i % 2}
        for i in range(20)
    ]

    async def scene() -> None:
        async with serving(endless, max_running=6, max_waiting=20) as app:
            callers = [Caller(app, stream=i % 3 == 0, **body) for i, body in enumerate(asked)]
            for caller in callers:
                await caller.end()
            for i, (caller, body) in enumerate(zip(callers, asked, strict=True)):
                assert caller.status == 200
                text = caller.text if i % 3 == 0 else caller.json["choices"][0]["text"]
                assert text == alone(endless, **body), body
            assert n_inside(app) == 0

    asyncio.run(scene())


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(endless: OpenModel, stream: bool) -> None:
    """Guards: a generation that goes on for nobody (streamed or not), a queue that stays full."""

    async def scene() -> None:
        async with serving(endless, max_running=1, max_waiting=0) as app:
            first = Caller(app, stream=stream, **LONG)
            await until(lambda: engine_of(app).running and len(engine_of(app).running[0].token_ids) > 3)
            request = engine_of(app).running[0]
            refused = Caller(app)
            await refused.end()
            assert refused.status == 429
            await first.leave()
            second = Caller(app, stream=stream, max_tokens=3)
            await second.end()
            assert second.status == 200
            assert n_inside(app) == 0
            assert len(request.token_ids) < 1000

    asyncio.run(scene())


def test_thirty_percent_cut(endless: OpenModel) -> None:
    """Guards: cut streams that hold their slots. Counted in steps: at the second step after its client left,
    a request is in the engine no more, and the others say what they say alone."""
    steps: list[set[int]] = []

    async def scene() -> None:
        async with serving(endless, max_running=20, max_waiting=0) as app:
            engine = engine_of(app)
            real_step = engine.step

            def watched() -> Any:
                steps.append({request.prompt_ids[0] for request in engine.running})
                return real_step()

            engine.step = watched
            callers = [Caller(app, stream=True, prompt=[i], **LONG | {"max_tokens": 80}) for i in range(20)]
            await until(lambda: all(len(caller.events) > 2 for caller in callers))
            left = {0, 3, 6, 9, 12, 15}
            for i in left:
                await callers[i].leave()
            at = len(steps)
            await until(lambda: len(steps) >= at + 2)
            assert not left & steps[at + 1]
            assert len(engine.running) <= 14
            assert app.state.engines.lanes["endless"].n_taken <= 14
            refilled = [Caller(app, prompt=[i], max_tokens=4, temperature=0) for i in left]
            for caller in refilled:
                await caller.end()
                assert caller.status == 200
            for i in set(range(20)) - left:
                await callers[i].end()
                assert i > 5 or callers[i].text == alone(endless, [i], max_tokens=80)
            assert n_inside(app) == app.state.engines.lanes["endless"].n_taken == 0
            assert not app.state.engines.tickets

    asyncio.run(scene())


def test_a_full_queue_is_429_with_retry_after(endless: OpenModel) -> None:
    """Guards: a queue without an end, a 429 without Retry-After, n that is counted as one."""

    async def scene() -> None:
        async with serving(endless, max_running=1, max_waiting=2, retry_after_s=3) as app:
            first = Caller(app, stream=True, **LONG)
            await until(lambda: n_inside(app) == 1)
            waiting = Caller(app, stream=True, **LONG)
            await until(lambda: n_inside(app) == 2)
            two = Caller(app, n=2)
            await two.end()
            assert two.status == 429
            assert two.header[b"retry-after"] == b"3"
            error = two.json["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "queue_full")
            one = Caller(app, stream=True, max_tokens=1)
            await until(lambda: n_inside(app) == 3)
            await waiting.leave()  # it leaves the queue, not the engine: its turn never comes
            assert not waiting.events
            await first.leave()
            await one.end()
            assert one.status == 200
            wide = Caller(app, n=7, max_tokens=2)  # more texts than places: alone it is let in, in turns
            await wide.end()
            assert len(wide.json["choices"]) == 7

    asyncio.run(scene())


def test_a_stop_string_ends_its_text_before_the_next_step(endless: OpenModel) -> None:
    """Guards: an engine that goes on behind a stop string until max_tokens."""

    async def scene() -> None:
        async with serving(endless) as app:
            text = alone(endless, "a", max_tokens=40)
            stop = text[10:12]
            seen = []
            engine = engine_of(app)
            real = engine.submit
            engine.submit = lambda *args, **kwargs: seen.append(real(*args, **kwargs)) or seen[-1]
            caller = Caller(app, stop=stop, **LONG)
            await caller.end()
            (choice,) = caller.json["choices"]
            assert (choice["text"], choice["finish_reason"]) == (text[: text.index(stop)], "stop")
            assert caller.json["usage"]["completion_tokens"] == len(seen[0].token_ids) < 41
            assert n_inside(app) == 0

    asyncio.run(scene())


def test_a_fault_in_a_step_ends_what_runs_and_nothing_else(endless: OpenModel) -> None:
    """Guards: one bad step that hangs its requests, kills the thread or leaves the engine broken."""

    async def scene() -> None:
        async with serving(endless, max_running=2) as app:
            callers = [Caller(app, stream=True, **LONG)]
            await until(lambda: callers[0].events)
            callers += [Caller(app, **LONG), Caller(app, **LONG)]
            await until(lambda: n_inside(app) == 3)
            broken = engine_of(app)

            def no_step() -> Any:
                raise RuntimeError("planted")

            broken.step = no_step
            for caller in callers:
                await caller.end()
            assert callers[0].status == 200
            assert callers[0].events[-1]["error"]["code"] == "internal_error"
            assert callers[0].raw.endswith(b"data: [DONE]\n\n")
            for caller in callers[1:]:
                assert caller.status == 500
                assert caller.json["error"]["type"] == "server_error"
                assert "planted" not in caller.raw.decode()
            assert engine_of(app) is not broken
            after = Caller(app, prompt="a", max_tokens=8, temperature=0)
            await after.end()
            assert after.json["choices"][0]["text"] == alone(endless, "a", max_tokens=8)
            assert app.state.engines.lanes["endless"].n_taken == 0

    asyncio.run(scene())


def test_a_dead_thread_is_said(endless: OpenModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: /health that says ok, and requests that wait for ever, when the thread has died."""
    monkeypatch.setattr(threading, "excepthook", lambda args: None)  # its traceback is not this test's

    async def scene() -> None:
        async with serving(endless) as app:
            running = Caller(app, stream=True, **LONG)
            await until(lambda: running.events)

            def die() -> None:
                raise SystemExit

            app.state.engines._inbox.put(die)
            await running.end()
            assert running.events[-1]["error"]["code"] == "engine_stopped"
            for method, path in (("POST", "/v1/completions"), ("GET", "/health"), ("GET", "/ready")):
                caller = Caller(app, path, method)
                await caller.end()
                assert caller.status == 503, path

    asyncio.run(scene())


def test_an_answer_that_takes_too_long_is_ended(endless: OpenModel) -> None:
    """Guards: a request timeout that nobody keeps, and a slot that its request keeps."""

    async def scene() -> None:
        async with serving(endless, request_timeout_s=0.05) as app:
            whole, streamed = Caller(app, **LONG), Caller(app, stream=True, **LONG)
            await whole.end()
            await streamed.end()
            assert whole.status == 504
            assert whole.json["error"]["code"] == "timeout"
            assert streamed.events[-1]["error"]["code"] == "timeout"
            assert streamed.raw.endswith(b"data: [DONE]\n\n")
            await until(lambda: n_inside(app) == 0)

    asyncio.run(scene())


def test_commands_that_never_end_starve_no_text(endless: OpenModel) -> None:
    """Guards: an inbox that is taken in until it is empty, which beside four clients that echo it never is.
    Each command here leaves another behind, so between two steps there may be one of them and no more."""
    n_commands, at_steps = 0, []

    async def scene() -> None:
        async with serving(endless) as app:
            engines, engine, is_over = app.state.engines, engine_of(app), False
            real_step = engine.step

            def watched() -> Any:
                at_steps.append(n_commands)
                return real_step()

            def again() -> None:
                nonlocal n_commands
                n_commands += 1
                if not is_over and n_commands < 100_000:  # an end for the thread that this test is to catch
                    engines._inbox.put(again)

            engine.step = watched
            running = Caller(app, stream=True, **LONG | {"max_tokens": 80})
            await until(lambda: running.events)
            engines._inbox.put(again)
            await running.end()
            is_over = True
            assert running.status == 200

    asyncio.run(scene())
    assert max(at_steps) > 0
    assert max(later - sooner for sooner, later in pairwise(at_steps)) == 1


def test_a_function_runs_beside_the_engine(endless: OpenModel) -> None:
    """Guards: the playground's look into a model in the middle of a step, in a thread of its own."""

    async def scene() -> None:
        async with serving(endless) as app:
            engines: EngineThread = app.state.engines
            running = Caller(app, stream=True, **LONG | {"max_tokens": 60})
            names = {await engines.call("endless", lambda opened: threading.current_thread().name)}
            assert names == {"engines"}
            with pytest.raises(ZeroDivisionError):
                await engines.call("endless", lambda opened: 1 / 0)
            logits = await engines.call("endless", lambda opened: opened.model(torch.tensor([[1]])))
            assert logits.shape == (1, 1, 320)
            await running.end()
            assert running.text == alone(endless, "a", max_tokens=60)

    asyncio.run(scene())

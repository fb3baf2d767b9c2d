"""gpt/serve/playground.py: the page's files and headers, what a model can do, where its heads look."""

import asyncio
import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx import ASGITransport, AsyncClient, Response

from gpt.catalog.open_model import OpenModel
from gpt.report.heatmaps import DIGITS, head_weights
from gpt.serve import playground
from gpt.serve.errors import install_error_handlers
from gpt.serve.playground import MAX_WAITING, PAGE_DIR, Call, ability, playground_routes

TEXT = "Shall I compare thee to a summer's day?"


def app_of(opened: OpenModel, call: Call | None = None) -> FastAPI:
    """The playground alone."""
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(playground_routes({"pretrain": opened}, call))
    return app


@pytest.fixture
def alone(opened: OpenModel) -> Iterator[TestClient]:
    """The playground over one tiny model."""
    with TestClient(app_of(opened), raise_server_exceptions=False) as client:
        yield client


def look(client: TestClient, **body: Any) -> dict[str, Any]:
    """Ask for attention that must be given."""
    answer = client.post("/playground/attention", json={"text": TEXT, **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_server_has_the_page(client: TestClient) -> None:
    """Guards: a server whose application forgot the playground."""
    index = client.get("/")
    assert index.headers["content-type"] == "text/html; charset=utf-8"
    assert "<title>rawgpt playground</title>" in index.text
    assert client.get("/playground/models").json()["data"][0]["id"] == "pretrain"


@pytest.mark.parametrize(
    ("name", "kind"),
    [("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")],
)
def test_files_have_types_a_policy_and_a_memory(alone: TestClient, name: str, kind: str) -> None:
    """Guards: a script that nosniff refuses, a page that may load from elsewhere, one that is stale."""
    answer = alone.get(f"/page/{name}")
    assert answer.content == (PAGE_DIR / name).read_bytes()
    assert answer.headers["content-type"] == f"{kind}; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "unsafe" not in policy
    again = alone.get(f"/page/{name}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert alone.get(f"/page/{name}", headers={"If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("name", ["nothing.js", "index.html", "..%2fplayground.py", "%2e%2e/app.py"])
def test_nothing_else_is_served(alone: TestClient, name: str) -> None:
    """Guards: a folder of the server read through the page's address."""
    answer = alone.get(f"/page/{name}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "unknown_path"


def test_every_file_of_the_page_is_named_by_another() -> None:
    """Guards: a script that the page asks for and that is not there, and one that nobody asks for."""
    texts = {path.name: path.read_text() for path in PAGE_DIR.iterdir()}
    for name in texts:
        others = "".join(text for other, text in texts.items() if other != name)
        assert name == "index.html" or f"/page/{name}" in others or f"./{name}" in others, name
    assert "//" not in texts["index.html"]  # no address of another machine
    assert "innerHTML" not in "".join(texts.values())


def test_what_a_model_can_do(alone: TestClient, opened: OpenModel) -> None:
    """Guards: a page that offers layers that are not there."""
    (only,) = alone.get("/playground/models").json()["data"]
    config = opened.model.config
    assert only == ability(opened)
    assert (only["n_layers"], only["n_heads"], only["context_tokens"]) == (
        config.n_layers,
        config.n_heads,
        config.max_seq_len,
    )
    assert only["n_parameters"] == sum(p.numel() for p in opened.model.parameters())
    assert only["bits"] is None


def test_attention_is_the_model_s(alone: TestClient, opened: OpenModel) -> None:
    """Guards: heads under each other's names, rows that are columns, tokens that are not the text."""
    body = look(alone)
    assert "".join(body["tokens"]) == TEXT
    ids = opened.tokenizer.encode(TEXT)
    expected = head_weights(opened.model, torch.tensor([ids]))
    config = opened.model.config
    places = [(head["layer"], head["head"]) for head in body["heads"]]
    assert places == [(i, j) for i in range(config.n_layers) for j in range(config.n_heads)]
    for head in body["heads"]:
        for i, row in enumerate(head["weights"]):
            assert len(row) == i + 1
            wanted = expected[head["layer"]][0, head["head"], i, : i + 1].tolist()
            assert row == [round(weight, DIGITS) for weight in wanted]
    assert look(alone, layer=1, model="pretrain")["heads"] == [h for h in body["heads"] if h["layer"] == 1]


@pytest.mark.parametrize(
    ("body", "status", "code", "param"),
    [
        ({}, 400, "invalid_value", "text"),
        ({"text": ""}, 400, "invalid_value", "text"),
        ({"text": "a" * 4001}, 400, "invalid_value", "text"),
        ({"text": "a" * 65}, 400, "too_many_tokens", "text"),
        ({"text": "\ud800"}, 400, "invalid_value", "text"),
        ({"text": "a", "layer": 2}, 400, "invalid_value", "layer"),
        ({"text": "a", "layer": -1}, 400, "invalid_value", "layer"),
        ({"text": "a", "layer": "1"}, 400, "invalid_value", "layer"),
        ({"text": "a", "heads": 1}, 400, "invalid_value", "heads"),
        ({"text": "a", "model": "other"}, 404, "model_not_found", "model"),
    ],
)
def test_a_wrong_request_is_named(
    alone: TestClient, body: dict[str, Any], status: int, code: str, param: str
) -> None:
    """Guards: a 500, or an error in another shape than the API's."""
    content = json.dumps(body)  # httpx's own JSON would refuse half a surrogate pair
    answer = alone.post(
        "/playground/attention", content=content, headers={"Content-Type": "application/json"}
    )
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param), error


def test_an_answer_is_bounded(alone: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards: a hundred megabytes of JSON for a long text and a deep model."""
    n_tokens = len(look(alone, layer=0)["tokens"])
    heads = len(look(alone, layer=0)["heads"])
    monkeypatch.setattr(playground, "MAX_ATTENTION_WEIGHTS", heads * n_tokens * (n_tokens + 1) // 2)
    assert len(look(alone, layer=0)["heads"]) == heads
    refused = alone.post("/playground/attention", json={"text": TEXT})
    assert refused.json()["error"]["code"] == "too_many_weights"
    assert refused.json()["error"]["message"].endswith("name one of 0..1")


def test_a_crowd_is_told_to_wait(opened: OpenModel) -> None:
    """Guards: a queue of attention requests without an end, and one that never gets shorter."""

    async def crowd() -> list[Response]:
        go_on = asyncio.Event()

        async def call(name: str, function: Callable[[OpenModel], dict[str, Any]]) -> dict[str, Any]:
            await go_on.wait()
            return function(opened)

        app = app_of(opened, call)
        async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as client:
            ask = partial(client.post, "/playground/attention", json={"text": TEXT})
            tasks = [asyncio.create_task(ask()) for _ in range(MAX_WAITING + 1)]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            go_on.set()
            answers = [done.pop().result(), *[task.result() for task in (await asyncio.wait(tasks))[0]]]
            return [*answers, await ask()]

    refused, *others = asyncio.run(crowd())
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert refused.json()["error"]["code"] == "queue_full"
    assert sorted(answer.status_code for answer in others) == [200] * (MAX_WAITING + 1) + [429]

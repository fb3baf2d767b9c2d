"""Keys, foreign pages, and that no route forgets them."""

import re
from collections.abc import Sequence

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import BaseRoute, Route

from gpt.catalog.open_model import OpenModel
from gpt.serve.access import PUBLIC, is_public
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig

KEYS = ("first-key-0123456789", "second-key-0123456789")


@pytest.fixture
def app(opened: OpenModel) -> FastAPI:
    return create_app([opened], ServeConfig(api_keys=KEYS))


@pytest.fixture
def locked(app: FastAPI) -> TestClient:
    return TestClient(app, base_url="http://127.0.0.1")


def paths(routes: Sequence[BaseRoute]) -> set[str]:
    """Return a path of every route, those of included routers too."""
    found = set()
    for route in routes:
        if isinstance(route, Route):
            found.add(re.sub(r"{.*?}", "x", route.path))
        else:
            found |= paths(route.original_router.routes)  # type: ignore[attr-defined]
    return found


def test_every_route_needs_a_key_but_the_page_and_two(app: FastAPI, locked: TestClient) -> None:
    """Guards: keys on a list of prefixes, and a route that is added outside of it."""
    asked = paths(app.routes) | {
        "/nowhere",
        "/health/",
        "/ready/../v1/models",
        "//v1/models",
        "/page",
        "/page/../v1/models",
    }
    assert {"/v1/completions", "/v1/chat/completions", "/v1/models", "/metrics", "/openapi.json"} <= asked
    for path in asked:
        for method in ("GET", "POST", "OPTIONS"):
            answer = locked.request(method, path)
            if is_public(answer.request.url.path):
                assert answer.status_code in (200, 404, 405), path
                continue
            assert answer.status_code == 401, (method, path)
            assert answer.json()["error"]["code"] == "invalid_api_key"
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.headers["www-authenticate"] == "Bearer"
    assert PUBLIC == ("/health", "/ready", "/", "/page/")


def test_what_opens(locked: TestClient) -> None:
    """Guards: a key that is compared in part, in another case, or found in a wrong scheme."""

    def status(authorization: str | None) -> int:
        headers = {} if authorization is None else {"Authorization": authorization}
        return locked.get("/v1/models", headers=headers).status_code

    for key in KEYS:
        assert status(f"Bearer {key}") == status(f"bearer  {key} ") == 200
        for wrong in (key[:-1], key + "x", key.upper(), "", f"{key},{KEYS[0]}"):
            assert status(f"Bearer {wrong}") == 401, wrong
        assert status(key) == status(f"Token {key}") == status(f"Basic {key}") == 401
    assert status(None) == 401


def test_the_page_opens_without_a_key(locked: TestClient) -> None:
    """Guards: a page that no browser can open, because only its own requests can bear a key."""
    page = locked.get("/", headers={"Accept": "text/html,*/*"})
    assert page.status_code == 200
    for asset in re.findall(r'(?:src|href)="(/page/[^"]+)"', page.text):
        assert locked.get(asset).status_code == 200, asset
    assert locked.get("/playground/models").status_code == 401


@pytest.mark.parametrize("keys", [(), KEYS])
def test_a_foreign_page_is_refused(opened: OpenModel, keys: tuple[str, ...]) -> None:
    """Guards: any page that the user opens may use a server on loopback, or the key that a browser keeps."""
    client = TestClient(create_app([opened], ServeConfig(api_keys=keys)), base_url="http://127.0.0.1:8000")
    headers = {"Authorization": f"Bearer {KEYS[0]}"}
    for origin in ("https://evil.example", "http://127.0.0.1:9000", "null", ""):
        answer = client.get("/v1/models", headers={**headers, "Origin": origin})
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "foreign_origin"
    own = client.get("/v1/models", headers={**headers, "Origin": "http://127.0.0.1:8000"})
    assert own.status_code == 200


def test_keys_are_not_shown() -> None:
    """Guards: a key in a log: the configuration printed, or a message about a key."""
    assert "first-key" not in repr(ServeConfig(api_keys=KEYS))
    for bad in ("short", "with a space in its middle", "ключ-ключ-ключ-ключ"):
        with pytest.raises(ValueError, match="api_keys: key 2 of 2 must be 16 or more") as refused:
            ServeConfig(api_keys=(KEYS[0], bad))
        assert bad not in str(refused.value)

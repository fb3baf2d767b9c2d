"""One tiny served model, and a browser to look at it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from gpt.catalog.open_model import OpenModel, open_model
from gpt.model.config import ModelConfig
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig
from gpt.tokenizer.tokenizer import Tokenizer
from tests.generate.tiny_checkpoint import save_tiny
from tests.serve.chromium import Browser, Page, chromium
from tests.serve.scripted import Script, scripted_app, served

CONFIG = ServeConfig(max_body_bytes=4000, max_running=1, max_waiting=1)


@pytest.fixture
def opened(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> OpenModel:
    """A model of random weights with a context of 64 tokens."""
    save_tiny(tmp_path / "models/pretrain/checkpoint", modern, tokenizer)
    return open_model("pretrain", root=tmp_path / "models")


@pytest.fixture
def client(opened: OpenModel) -> Iterator[TestClient]:
    """A client of an application in this process; server faults come as answers."""
    app = create_app([opened], CONFIG)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def endless(tmp_path: Path, modern: ModelConfig, tokenizer: Tokenizer) -> OpenModel:
    """A model that, greedy, goes on to its context of 2,048 tokens."""
    folder = tmp_path / "models/endless/checkpoint"
    save_tiny(folder, modern, tokenizer, max_seq_len=2048, never_stops=True)
    return open_model(str(folder))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests; every page has a context of its own."""
    with chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


@pytest.fixture
def script() -> Script:
    """What the models say."""
    return Script()


@pytest.fixture
def url(opened: OpenModel, script: Script) -> Iterator[str]:
    """The address of a playground over two models of one checkpoint."""
    models = {name: dataclasses.replace(opened, name=name) for name in ("base", "tuned")}
    with served(scripted_app(models, script)) as address:
        yield address


@pytest.fixture
def page(browser: Browser, url: str) -> Iterator[Page]:
    """The page, ready; in the end nothing in it may have failed."""
    with browser.page(f"{url}/") as page:
        page.wait("document.body.dataset.ready")
        yield page
        assert page.complaints == []

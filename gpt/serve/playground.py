"""The playground: one page for the browser, its files, and what it needs beside OpenAI's endpoints.

GET / and /page/... are the page; it is plain HTML, CSS and JavaScript of this folder, and its policy lets the
browser load nothing from elsewhere. GET /playground/models says what a model is able to; POST
/playground/attention says where its heads look. Not here: keys and limits of the body, which are the app's.
"""

import hashlib
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import torch
from anyio import to_thread
from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict, Field

from gpt.catalog.chat_ability import can_chat
from gpt.catalog.open_model import OpenModel
from gpt.model.flops import count_parameters
from gpt.report.heatmaps import DIGITS, head_weights
from gpt.serve.errors import ApiError
from gpt.serve.schemas import Text

Call = Callable[[str, Callable[[OpenModel], dict[str, Any]]], Awaitable[dict[str, Any]]]
"""Runs a function of a model, which is named, where models may be run."""
PAGE_DIR = Path(__file__).parent / "page"
INDEX = "index.html"
MAX_ATTENTION_CHARS = 4000
MAX_ATTENTION_TOKENS = 64
"""More would be no picture but dust."""
MAX_ATTENTION_WEIGHTS = 150_000
"""Of one answer; about a megabyte of JSON."""
MAX_WAITING = 4
"""Attention requests at a time, of which one is computed."""
PAGE_HEADERS = {
    "Cache-Control": "no-cache",  # kept by the browser, asked for by its ETag: a new server has a new page
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class AttentionRequest(BaseModel):
    """POST /playground/attention."""

    model_config = ConfigDict(extra="forbid", strict=True)
    model: str | None = None
    """The first one served, when it is left out."""
    text: Text = Field(min_length=1, max_length=MAX_ATTENTION_CHARS)
    layer: int | None = Field(default=None, ge=0)
    """Counts from 0; all layers, when it is left out."""


class PageFile:
    """One file of the page in memory."""

    def __init__(self, path: Path) -> None:
        kind = mimetypes.guess_type(path.name)[0]
        assert kind is not None, f"{path.name}: no known content type"
        self.content = path.read_bytes()
        self.content_type = f"{kind}; charset=utf-8"
        self.etag = f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'

    def answer(self, request: Request) -> Response:
        """Return the file, or 304 when the browser has it."""
        headers = PAGE_HEADERS | {"ETag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.content, headers=headers | {"Content-Type": self.content_type})


def playground_routes(models: Mapping[str, OpenModel], call: Call | None = None) -> APIRouter:
    """Return the routes of the playground over the open models, the first of which is the default.

    `call` runs a function of a model beside its engine; without one it runs in a thread of its own.
    """
    router = APIRouter()
    files = {path.name: PageFile(path) for path in sorted(PAGE_DIR.iterdir())}
    turn = anyio.Semaphore(1)
    abilities: dict[str, dict[str, Any]] = {}
    n_waiting = 0

    async def in_thread(name: str, function: Callable[[OpenModel], dict[str, Any]]) -> dict[str, Any]:
        return await to_thread.run_sync(function, models[name])

    run = call or in_thread

    @router.get("/", include_in_schema=False)
    async def index(request: Request) -> Response:
        """The page."""
        return files[INDEX].answer(request)

    @router.get("/page/{name}", include_in_schema=False)
    async def page_file(name: str, request: Request) -> Response:
        """A style, a script or a picture of the page."""
        if name not in files or name == INDEX:
            raise HTTPException(404)
        return files[name].answer(request)

    @router.get("/playground/models")
    async def details() -> dict[str, Any]:
        """What the page may offer of each model."""
        async with turn:
            for name in models:
                if name not in abilities:
                    abilities[name] = await run(name, ability)
        return {"object": "list", "data": list(abilities.values())}

    @router.post("/playground/attention")
    async def attention(body: AttentionRequest) -> dict[str, Any]:
        """Where each head looks: for every token, the weights of the tokens up to it."""
        nonlocal n_waiting
        name = body.model or next(iter(models))
        if name not in models:
            message = f"model: {name!r} is not served here; {', '.join(models)} may be asked"
            raise ApiError(404, message, code="model_not_found", param="model")
        if n_waiting >= MAX_WAITING:
            message = f"{n_waiting} attention requests wait already; try again later"
            raise ApiError(429, message, code="queue_full", headers={"Retry-After": "1"})
        n_waiting += 1
        try:
            async with turn:
                return await run(name, partial(look, body.text, body.layer))
        finally:
            n_waiting -= 1

    return router


def look(text: str, layer: int | None, opened: OpenModel) -> dict[str, Any]:
    """Return the tokens and {layer, head, weights} of every head of a layer, or of all.

    `weights` has a row a token, with one probability for each token up to it. Raises ApiError for what is
    too long or not there.
    """
    config = opened.model.config
    if layer is not None and layer >= config.n_layers:
        message = f"layer: {layer} is not there; {opened.name} has the layers 0..{config.n_layers - 1}"
        raise ApiError(400, message, code="invalid_value", param="layer")
    ids = opened.tokenizer.encode(text)
    most = min(MAX_ATTENTION_TOKENS, config.max_seq_len)
    if len(ids) > most:
        message = f"text: {len(ids)} tokens, but {most} at most are drawn; shorten it"
        raise ApiError(400, message, code="too_many_tokens", param="text")
    layers = range(config.n_layers) if layer is None else range(layer, layer + 1)
    n_weights = len(layers) * config.n_heads * len(ids) * (len(ids) + 1) // 2
    if n_weights > MAX_ATTENTION_WEIGHTS:
        n_heads = len(layers) * config.n_heads
        message = (
            f"layer: {n_heads} heads over {len(ids)} tokens are {n_weights:,} weights, but "
            f"{MAX_ATTENTION_WEIGHTS:,} at most are sent; name one of 0..{config.n_layers - 1}"
        )
        raise ApiError(400, message, code="too_many_weights", param="layer")
    weights = head_weights(opened.model, torch.tensor([ids], device=opened.device))
    heads = [
        {"layer": i, "head": head, "weights": _triangle(rows)}
        for i in layers
        for head, rows in enumerate(weights[i][0].cpu().tolist())
    ]
    tokens = [opened.tokenizer.decode_bytes([i]).decode("utf-8", "replace") for i in ids]
    return {"model": opened.name, "tokens": tokens, "heads": heads}


def ability(opened: OpenModel) -> dict[str, Any]:
    """Return what the page may offer of a model."""
    config = opened.model.config
    quantization = opened.info["quantization"]
    return {
        "id": opened.name,
        "can_chat": can_chat(opened),
        "context_tokens": config.max_seq_len,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "n_parameters": count_parameters(config).total,
        "bits": quantization["bits"] if quantization else None,
    }


def _triangle(rows: list[list[float]]) -> list[list[float]]:
    """Keep of weights (T, T) what a token may see; the rest is zero."""
    return [[round(weight, DIGITS) for weight in row[: i + 1]] for i, row in enumerate(rows)]

"""The HTTP API over open models, in the shapes of OpenAI's: models, completions, chat completions.

A request waits in its model's queue, and all that run are generated together (engine_thread.py). Not here:
limits before a body is read (limits.py), keys (access.py), the socket (http_server.py).
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import Response

from gpt.catalog.open_model import OpenModel
from gpt.serve.access import Access
from gpt.serve.answer import answer, check_request, jobs_of
from gpt.serve.chat import ChatReply
from gpt.serve.completions import CompletionReply
from gpt.serve.config import ServeConfig
from gpt.serve.drain import Drain, RefuseWhenDraining
from gpt.serve.echo import NO_ECHO, Echo, echo_of
from gpt.serve.engine_thread import EngineThread
from gpt.serve.errors import ApiError, install_error_handlers, refusing
from gpt.serve.health import health_routes
from gpt.serve.limits import Limits
from gpt.serve.metrics import CountRequests, Metrics
from gpt.serve.playground import playground_routes
from gpt.serve.schemas import COMPLETION_MAX_TOKENS, ChatRequest, CompletionRequest
from gpt.serve.ticket import Ticket
from gpt.tokenizer.chat_template import encode_prompt


def create_app(models: Sequence[OpenModel], config: ServeConfig) -> FastAPI:
    """Return the application that serves `models`; a request that names none gets the first.

    `app.state.models` has them by name, `app.state.engines.call` runs a function of one beside its engine.
    """
    metrics = Metrics()
    engines = EngineThread(models, config, metrics)
    drain = Drain(engines, config.drain_s)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(engines.close)

    app = FastAPI(title="rawgpt", version=_version(), docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.models = {opened.name: opened for opened in models}
    app.state.engines, app.state.drain = engines, drain
    for middleware in (  # the last is the outermost
        partial(Limits, config=config),
        partial(RefuseWhenDraining, drain=drain),
        partial(Access, api_keys=config.api_keys),
        partial(CountRequests, metrics=metrics),
    ):
        app.add_middleware(middleware)
    install_error_handlers(app)
    app.include_router(health_routes(engines, metrics, drain))
    app.include_router(playground_routes(app.state.models, engines.call))
    cards = {opened.name: _card(opened) for opened in models}

    def named(name: str | None) -> OpenModel:
        """Return a served model; raises ApiError 404."""
        if name is None:
            return models[0]
        if name not in cards:
            message = f"model: {name!r} is not served here; {', '.join(cards)} is"
            raise ApiError(404, message, code="model_not_found", param="model")
        return app.state.models[name]

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """The models that are served."""
        return {"object": "list", "data": list(cards.values())}

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        """The card of a model."""
        return cards[named(name).name]

    @app.post("/v1/completions")
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Continue texts."""
        opened = named(body.model)
        prompts = await to_thread.run_sync(_completion_prompts, body, opened)
        check_request(body, prompts, opened, config)
        max_tokens = at_most(COMPLETION_MAX_TOKENS) if body.max_tokens is None else body.max_tokens
        # the dials of an echo alone are checked too
        jobs = jobs_of(body, prompts, opened, max_tokens or 1, body.logprobs or 0)
        reply = CompletionReply(opened, prompts, body.n, wants_logprobs=body.logprobs is not None)

        async def echo(ticket: Ticket) -> None:
            reply.echoes = await echoes(body, prompts, opened, ticket)

        before = echo if body.echo else None
        return await answer(request, engines, body, opened.name, jobs if max_tokens else [], reply, before)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Speak the assistant's next turn."""
        opened = named(body.model)
        messages = [message.model_dump() for message in body.messages]
        prompt_ids = await to_thread.run_sync(refusing, encode_prompt, opened.tokenizer, messages)
        check_request(body, [prompt_ids], opened, config)
        context = opened.model.config.max_seq_len
        max_tokens = at_most(context) if body.asked_tokens is None else body.asked_tokens
        jobs = jobs_of(body, [prompt_ids], opened, max_tokens, body.top_logprobs)
        reply = ChatReply(opened, [prompt_ids], body.n, wants_logprobs=body.logprobs)
        return await answer(request, engines, body, opened.name, jobs, reply)

    def at_most(n_tokens: int) -> int:
        """Return how many tokens a text gets whose request says nothing of it."""
        return n_tokens if config.max_tokens is None else min(n_tokens, config.max_tokens)

    async def echoes(
        body: CompletionRequest, prompts: Sequence[list[int]], opened: OpenModel, ticket: Ticket
    ) -> list[Echo]:
        """Return the prompts' echoes, made in the engines' thread: logprobs need the model."""
        made = []
        for prompt, prompt_ids in zip(body.prompt, prompts, strict=True):
            echo = partial(echo_of, prompt_ids=prompt_ids, n_alternatives=body.logprobs)
            made.append(await engines.call(opened.name, echo, ticket) if prompt else NO_ECHO)
        return made

    return app


def _completion_prompts(body: CompletionRequest, opened: OpenModel) -> list[list[int]]:
    """Return the ids of a completion's prompts; an empty text begins a new document."""
    return [
        (refusing(opened.tokenizer.encode, prompt) or [opened.tokenizer.end_of_text])
        if isinstance(prompt, str)
        else prompt
        for prompt in body.prompt
    ]


def _card(opened: OpenModel) -> dict[str, Any]:
    return {
        "id": opened.name,
        "object": "model",
        "created": 0,  # a checkpoint has no date: the same bytes are the same model
        "owned_by": "rawgpt",
        "parent": opened.info.get("base"),
        "sha256": opened.sha256,
        "context_tokens": opened.model.config.max_seq_len,
    }


def _version() -> str:
    try:
        return version("rawgpt")
    except PackageNotFoundError:
        return "0"  # run from a checkout that was not installed

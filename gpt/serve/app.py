"""The HTTP API over one open model: health, models, completions, chat.

Not here: keys, metrics, batching (one request generates at a time, the others wait). It binds to the
loopback address; whoever can reach it may use it.
"""

import logging
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
from anyio import to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response

from gpt.catalog.open_model import OpenModel
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import generate
from gpt.generate.generate_text import Piece, generate_text
from gpt.serve.chat import ChatReply
from gpt.serve.completions import CompletionReply
from gpt.serve.config import ServeConfig
from gpt.serve.errors import ApiError, install_error_handlers
from gpt.serve.event_stream import EventStream, events, unless_client_leaves
from gpt.serve.limits import Limits
from gpt.serve.playground import playground_routes
from gpt.serve.reply import Reply
from gpt.serve.schemas import COMPLETION_MAX_TOKENS, ChatRequest, CompletionRequest, GenerationRequest
from gpt.serve.slot import GenerationSlot, QueueFull, Ticket
from gpt.tokenizer.chat_template import encode_prompt

log = logging.getLogger("uvicorn.error")
READY = SamplingConfig(max_tokens=1, seed=0, temperature=0.0)


def create_app(model: OpenModel, config: ServeConfig) -> FastAPI:
    """Return the application that serves `model`."""
    app = FastAPI(title="rawgpt", version=_version(), docs_url=None, redoc_url=None)
    app.add_middleware(Limits, config=config)
    install_error_handlers(app)
    app.state.slot = GenerationSlot(config.max_waiting)
    app.include_router(playground_routes({model.name: model}))
    probe = anyio.Semaphore(1)
    card = _card(model)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, Any]:
        """The model generates: one token is made for this answer, beside the queue."""
        async with probe:
            try:
                token_id = await to_thread.run_sync(_one_token, model)
            except Exception as error:
                log.exception("the readiness probe failed")
                raise ApiError(503, "the model cannot generate", code="not_ready") from error
        return {"status": "ready", "model": model.name, "token_id": token_id}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """The one model that is served."""
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{name}")
    async def one_model(name: str) -> dict[str, Any]:
        """The card of a model."""
        _check_model(name, model)
        return card

    @app.post("/v1/completions")
    async def complete(body: CompletionRequest, request: Request) -> Response:
        """Continue a text."""
        _check_model(body.model, model)
        prompt_ids = await to_thread.run_sync(_completion_prompt, body, model)
        reply = CompletionReply(model, len(prompt_ids), wants_logprobs=body.logprobs is not None)
        return await answer(request, body, prompt_ids, reply, COMPLETION_MAX_TOKENS, body.logprobs or 0)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Speak the assistant's next turn."""
        _check_model(body.model, model)
        messages = [message.model_dump() for message in body.messages]
        prompt_ids = await to_thread.run_sync(_refusing, encode_prompt, model.tokenizer, messages)
        reply = ChatReply(model, len(prompt_ids), wants_logprobs=body.logprobs)
        context = model.model.config.max_seq_len
        return await answer(request, body, prompt_ids, reply, context, body.top_logprobs)

    async def answer(
        request: Request,
        body: GenerationRequest,
        prompt_ids: Sequence[int],
        reply: Reply,
        default_max_tokens: int,
        n_alternatives: int,
    ) -> Response:
        """Check everything, take a place in the queue, then generate: streamed or whole."""
        sampling = _refusing(body.sampling, default_max_tokens)
        context = model.model.config.max_seq_len
        if len(prompt_ids) > context:
            message = f"prompt: {len(prompt_ids)} tokens do not fit the context of {context}; shorten it"
            raise ApiError(400, message, code="context_length_exceeded", param="prompt")
        steps = _refusing(
            generate_text,
            model.model,
            model.tokenizer,
            prompt_ids,
            sampling,
            stop=body.stop,
            device=model.device,
            n_alternatives=n_alternatives,
        )
        ticket = _take(app.state.slot, config)
        pieces = ticket.in_turn(steps)
        if body.stream:
            return EventStream(events(reply, pieces, usage=body.stream_options.include_usage), ticket)

        async def collect() -> list[Piece]:
            return [piece async for piece in pieces]

        try:
            whole = await unless_client_leaves(request, collect)
        finally:
            ticket.give_back()
        return JSONResponse(reply.whole(whole))

    return app


def _take(slot: GenerationSlot, config: ServeConfig) -> Ticket:
    try:
        return slot.take()
    except QueueFull:
        raise ApiError(
            429,
            f"{config.max_waiting} requests wait already; try again later",
            code="queue_full",
            headers={"Retry-After": str(config.retry_after_s)},
        ) from None


def _refusing(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call; a ValueError, which names its key in front of a colon, becomes a 400."""
    try:
        return function(*args, **kwargs)
    except ValueError as error:
        key = str(error).partition(":")[0]
        raise ApiError(
            400, str(error), code="invalid_value", param=key if key.isidentifier() else None
        ) from error


def _completion_prompt(body: CompletionRequest, model: OpenModel) -> list[int]:
    """Return the ids of a completion's prompt; an empty one begins a new document."""
    if isinstance(body.prompt, str):
        ids = _refusing(model.tokenizer.encode, body.prompt)
        return ids or [model.tokenizer.end_of_text]
    return body.prompt


def _check_model(name: str | None, model: OpenModel) -> None:
    if name not in (None, model.name):
        message = f"model: {name!r} is not served here; {model.name} is"
        raise ApiError(404, message, code="model_not_found", param="model")


def _one_token(model: OpenModel) -> int:
    prompt_ids = [model.tokenizer.end_of_text]
    return next(generate(model.model, prompt_ids, READY, device=model.device)).token_id


def _card(model: OpenModel) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": 0,  # a checkpoint has no date: the same bytes are the same model
        "owned_by": "rawgpt",
        "sha256": model.sha256,
        "context_tokens": model.model.config.max_seq_len,
    }


def _version() -> str:
    try:
        return version("rawgpt")
    except PackageNotFoundError:
        return "0"  # run from a checkout that was not installed

"""From checked prompts to an HTTP response: jobs into the engines, pieces out, streamed or whole."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from gpt.catalog.open_model import OpenModel
from gpt.generate.config import SamplingConfig
from gpt.generate.engine import check_prompt
from gpt.generate.generate_text import Piece, PieceStream
from gpt.serve.config import ServeConfig
from gpt.serve.engine_thread import EngineThread
from gpt.serve.errors import ApiError, invalid_value, refusing
from gpt.serve.event_stream import EventStream, events
from gpt.serve.reply import Reply
from gpt.serve.schemas import GenerationRequest
from gpt.serve.ticket import Indexed, Job, Ticket

T = TypeVar("T")
NOTHING = Piece(text="", tokens=(), n_tokens=0, finish_reason="length")
"""What max_tokens: 0 generates."""


def check_request(
    body: GenerationRequest, prompts: Sequence[Sequence[int]], opened: OpenModel, config: ServeConfig
) -> None:
    """Raise ApiError for prompts that do not fit, ids that are none, too many texts, too many tokens."""
    n_choices = len(prompts) * body.n
    if n_choices > config.max_choices:
        many = f"n: {len(prompts)} prompts with {body.n} texts each are more than {config.max_choices}"
        raise ApiError(400, many, code="too_many_choices", param="n")
    asked = body.asked_tokens
    if config.max_tokens is not None and asked is not None and asked > config.max_tokens:
        much = f"max_tokens: this server makes {config.max_tokens} at most, got {asked}"
        raise ApiError(400, much, code="too_many_tokens", param="max_tokens")
    context = opened.model.config.max_seq_len
    limit = min(context, config.max_prompt_tokens or context)
    for prompt_ids in prompts:
        if len(prompt_ids) > limit:
            what = f"the context of {context}" if limit == context else f"this server's limit of {limit}"
            long = f"prompt: {len(prompt_ids)} tokens do not fit {what}; shorten it"
            raise ApiError(400, long, code="context_length_exceeded", param="prompt")
        refusing(check_prompt, opened.model.config, prompt_ids)


def jobs_of(
    body: GenerationRequest,
    prompts: Sequence[Sequence[int]],
    opened: OpenModel,
    max_tokens: int,
    n_alternatives: int,
) -> list[Job]:
    """Return a job for each text: of prompt 0 with seed, seed + 1, ..., then of prompt 1 likewise."""
    sampling = refusing(body.sampling, max_tokens)
    return [
        Job(
            prompt_ids=prompt_ids,
            sampling=_with_seed(sampling, j),
            stream=PieceStream(opened.tokenizer, body.stop),
            n_alternatives=n_alternatives,
        )
        for prompt_ids in prompts
        for j in range(body.n)
    ]


def _with_seed(sampling: SamplingConfig, j: int) -> SamplingConfig:
    """Return the dials of text j; behind the largest seed follows the smallest."""
    return replace(sampling, seed=(sampling.seed + j + 2**63) % 2**64 - 2**63)


async def answer(
    request: Request,
    engines: EngineThread,
    body: GenerationRequest,
    model: str,
    jobs: Sequence[Job],
    reply: Reply,
    before: Callable[[Ticket], Coroutine[Any, Any, None]] | None = None,
) -> Response:
    """Take places in the queue, do what comes `before`, then generate. No job means that there is nothing to
    generate."""
    lane = engines.lanes[model]
    ticket = engines.take(lane, reply.n_choices)

    def release() -> None:
        engines.release(lane, ticket)

    try:
        if before is not None:
            async with asyncio.timeout_at(ticket.deadline_s):
                await unless_client_leaves(request, before(ticket))
        if jobs:
            await engines.submit(lane, ticket, jobs)
    except ValueError as error:
        release()
        raise invalid_value(error) from error
    except BaseException:  # a cancelled task too: its places must not stay taken
        release()
        raise
    # of a prompt's n texts the first: the others find in the cache what it put there
    reply.cached_tokens = lambda: sum(job.n_cached_tokens for job in jobs[:: body.n])
    pieces = ticket.pieces() if jobs else _nothing(reply.n_choices)
    if body.stream:
        content = events(reply, pieces, usage=body.stream_options.include_usage)
        return EventStream(content, release, engines.config.request_timeout_s)
    try:
        return JSONResponse(reply.whole(await unless_client_leaves(request, _collect(pieces))))
    finally:
        release()


async def _collect(pieces: AsyncIterator[list[Indexed]]) -> dict[int, list[Piece]]:
    collected: dict[int, list[Piece]] = {}
    async for ready in pieces:
        for index, piece in ready:
            collected.setdefault(index, []).append(piece)
    return collected


async def _nothing(n_choices: int) -> AsyncIterator[list[Indexed]]:
    yield [(index, NOTHING) for index in range(n_choices)]


async def unless_client_leaves(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`; cancel it and raise ApiError 499 when the client is gone."""

    async def leaves() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = (asyncio.create_task(work), asyncio.create_task(leaves()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise ApiError(499, "the client closed the connection", code="client_closed")
    finally:
        for task in tasks:
            task.cancel()

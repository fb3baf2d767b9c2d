"""Whether the server lives and whether it generates, and its figures for Prometheus."""

import asyncio
import logging
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from prometheus_client import CONTENT_TYPE_LATEST

from gpt.generate.config import SamplingConfig
from gpt.generate.generate_text import PieceStream
from gpt.serve.drain import Drain
from gpt.serve.engine_thread import GONE, EngineThread
from gpt.serve.errors import ApiError, as_api_error
from gpt.serve.metrics import Metrics
from gpt.serve.ticket import Job

ONE_TOKEN = SamplingConfig(max_tokens=1, seed=0, temperature=0.0)
log = logging.getLogger("uvicorn.error")


def health_routes(engines: EngineThread, metrics: Metrics, drain: Drain) -> APIRouter:
    """Return /health, /ready and /metrics."""
    router = APIRouter()
    probe: asyncio.Task[None] | None = None

    @router.get("/health")
    async def health() -> dict[str, str]:
        """The process answers and its engine's thread lives."""
        if engines.is_dead:
            raise GONE
        return {"status": "ok"}

    @router.get("/ready")
    async def ready() -> dict[str, Any]:
        """Every model generates: a token is made by each engine; probes that come meanwhile share it."""
        nonlocal probe
        if drain.has_begun:
            raise ApiError(503, "the server is shutting down", code="shutting_down")
        if probe is None or probe.done():
            probe = asyncio.create_task(_one_token_each(engines))
        try:
            await asyncio.shield(probe)
        except Exception as error:  # whatever it is, there is no readiness
            said = as_api_error(error)
            log.warning("not ready: %s", said.message)
            raise ApiError(503, f"no token was made: {said.message}", code="not_ready") from error
        return {"status": "ready", "models": list(engines.lanes)}

    @router.get("/metrics")
    async def figures() -> Response:
        """Prometheus's text format."""
        return Response(metrics.page(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _one_token_each(engines: EngineThread) -> None:
    """Make a token with each model, through the queue like any request's."""
    for lane in engines.lanes.values():
        tokenizer = lane.opened.tokenizer
        job = Job(
            prompt_ids=[tokenizer.end_of_text],
            sampling=ONE_TOKEN,
            stream=PieceStream(tokenizer),
            n_alternatives=0,
        )
        ticket = engines.take(lane, 1)
        try:
            await engines.submit(lane, ticket, [job])
            async for _ in ticket.pieces():
                pass
        finally:
            engines.release(lane, ticket)

"""What Prometheus reads at /metrics: one registry for each application, nothing global."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FIRST_TOKEN_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
TOKEN_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
MODEL = ("model",)


class Metrics:
    """The server's figures. prometheus_client's own locks make them safe for any thread."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "rawgpt_requests",
            "Answers by route and status; 499 is a client that left.",
            ("method", "route", "status"),
            registry=registry,
        )
        self.prompt_tokens = Counter(
            "rawgpt_prompt_tokens", "Tokens of accepted prompts.", MODEL, registry=registry
        )
        self.cached_prompt_tokens = Counter(
            "rawgpt_cached_prompt_tokens",
            "Prompt tokens whose keys and values were in the cache already.",
            MODEL,
            registry=registry,
        )
        self.generated_tokens = Counter(
            "rawgpt_generated_tokens", "Tokens generated, stop tokens included.", MODEL, registry=registry
        )
        self.running = Gauge("rawgpt_running_texts", "Texts being generated.", MODEL, registry=registry)
        self.waiting = Gauge("rawgpt_waiting_texts", "Texts that wait for a place.", MODEL, registry=registry)
        self.first_token = Histogram(
            "rawgpt_first_token_seconds",
            "From a request's arrival at the queue to a text's first token.",
            MODEL,
            buckets=FIRST_TOKEN_S,
            registry=registry,
        )
        self.token_interval = Histogram(
            "rawgpt_token_interval_seconds",
            "Between two tokens of one text.",
            MODEL,
            buckets=TOKEN_S,
            registry=registry,
        )

    def page(self) -> bytes:
        """Return the text format."""
        return generate_latest(self.registry)


class CountRequests:
    """ASGI middleware, the outermost: counts every answer, refusals too."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its status; 500 where it raised."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 499  # the client left before an answer began

        async def watch(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except Exception:
            status = 500
            raise
        finally:
            self.metrics.requests.labels(_method(scope), _route(scope), status).inc()


def _route(scope: Scope) -> str:
    """Return the route's pattern: a path as it was sent would make a series of its own."""
    return getattr(scope.get("route"), "path", "other")


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS") else "other"

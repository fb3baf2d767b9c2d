"""`rawgpt serve`: the HTTP API over one or several models."""

import errno
import os
import socket
from dataclasses import replace
from typing import Annotated

from typer import Option

LOOPBACK = ("127.0.0.1", "localhost", "::1")
BACKLOG = 2048
KEYS_VARIABLE = "RAWGPT_API_KEYS"


def serve(
    model: Annotated[
        list[str] | None,
        Option(help="A stage, a folder, an adapter, a .gguf file or smollm2-135m; repeat it for several."),
    ] = None,
    port: Annotated[int, Option(help="0 takes a free one; it is printed.")] = 8000,
    host: Annotated[str, Option(help="Address to bind; any but loopback needs a key.")] = "127.0.0.1",
    device: Annotated[str, Option(help="cpu, cuda or mps.")] = "cpu",
    max_running: Annotated[int, Option(help="Texts of a model that are generated together.")] = 64,
    max_waiting: Annotated[int, Option(help="Texts that may wait for those; the next is answered 429.")] = 64,
    cache_tokens: Annotated[
        int, Option(help="Positions that each model's cache holds, allocated at start.")
    ] = 16384,
    max_tokens: Annotated[
        int | None, Option(help="Most tokens of one text; else the model's context.")
    ] = None,
    request_timeout: Annotated[float, Option(help="Seconds that one answer may take.")] = 600.0,
    drain: Annotated[float, Option(help="Seconds that running answers get after SIGTERM.")] = 10.0,
    api_key: Annotated[
        list[str] | None,
        Option(help=f"A key that requests must bear; repeat it. {KEYS_VARIABLE}, a,b,c, is not in `ps`."),
    ] = None,
) -> int:
    """Serve models of the DAG, of the registry or of a file over HTTP, in the shape of OpenAI's API.

    GET /health, /ready, /metrics, /v1/models; POST /v1/completions, /v1/chat/completions (`"stream": true`
    streams). Requests that run at once are generated together. An adapter whose base is served too shares
    its weights. Ctrl-C lets what runs end.

    Example: `rawgpt serve --model finetune --model pretrain --port 8000`
    """
    from gpt.serve.config import ServeConfig

    if not 0 <= port < 2**16:
        raise ValueError(f"port: 0..65535 is needed, got {port}")
    references = model or ["pretrain"]
    keys = (*(api_key or ()), *_keys_of_environment())
    is_open = host not in LOOPBACK
    if is_open and not keys:
        raise ValueError(
            f"host: {host} is open to others and there is no key; set {KEYS_VARIABLE}, "
            f"such as `{KEYS_VARIABLE}=$(openssl rand -hex 24)`, or leave --host out"
        )
    config = ServeConfig(
        max_running=max_running,
        max_waiting=max_waiting,
        cache_tokens=cache_tokens,
        max_tokens=max_tokens,
        request_timeout_s=request_timeout,
        drain_s=drain,
        api_keys=keys,
    )
    if is_open:
        config = replace(config, allowed_hosts=("*",))
    listener = _listen(host, port)  # before the models: a taken port should be known at once
    with listener:
        from gpt.serve.app import create_app
        from gpt.serve.http_server import http_server
        from gpt.serve.open_models import open_models

        application = create_app(open_models(references, device=device), config)
        shown = f"[{host}]" if ":" in host else host
        names = ", ".join(application.state.models)
        listener.listen(BACKLOG)  # whoever reads the line may connect
        print(f"{names} on http://{shown}:{listener.getsockname()[1]}", flush=True)
        http_server(application, config).run(sockets=[listener])
    return 0


def _keys_of_environment() -> list[str]:
    """Return the keys of the environment, which are parted by commas."""
    return [key.strip() for key in os.environ.get(KEYS_VARIABLE, "").split(",") if key.strip()]


def _listen(host: str, port: int) -> socket.socket:
    """Bind the address; raises ValueError that says what to type when it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ValueError(f"port: {port} is taken; type `--port {port % 65535 + 1}`") from None
        if error.errno == errno.EACCES:
            raise ValueError(f"port: {port} is reserved for root; type `--port 8000`") from None
        raise ValueError(f"host: {host} cannot be bound ({error}); type `--host 127.0.0.1`") from None
    return listener

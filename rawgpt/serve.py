"""`rawgpt serve`: the HTTP API over one model."""

import errno
import socket
import sys
from typing import Annotated

from typer import Option

LOOPBACK = ("127.0.0.1", "localhost", "::1")
DRAIN_S = 5


def serve(
    model: Annotated[str, Option(help="A stage, a folder, a .gguf file or smollm2-135m.")] = "pretrain",
    port: Annotated[int, Option(help="0 takes a free one; it is printed.")] = 8000,
    host: Annotated[str, Option(help="Address to bind; any but loopback is open to others.")] = "127.0.0.1",
    device: Annotated[str, Option(help="cpu, cuda or mps.")] = "cpu",
    max_waiting: Annotated[int, Option(help="Requests that may wait; the next is answered 429.")] = 8,
) -> int:
    """Serve a model of the DAG, of the registry or of a file over HTTP, in the shape of OpenAI's API.

    GET /health, /ready, /v1/models; POST /v1/completions, /v1/chat/completions (`"stream": true` streams).
    One request generates at a time, the others wait. Ctrl-C ends it.

    Example: `rawgpt serve --model finetune --port 8000`
    """
    from gpt.serve.config import ServeConfig

    if not 0 <= port < 2**16:
        raise ValueError(f"port: 0..65535 is needed, got {port}")
    is_open = host not in LOOPBACK
    if is_open:
        config = ServeConfig(max_waiting=max_waiting, allowed_hosts=("*",))
    else:
        config = ServeConfig(max_waiting=max_waiting)
    listener = _listen(host, port)  # before the model: a taken port should be known at once
    with listener:
        import uvicorn

        from gpt.catalog.open_model import open_model
        from gpt.serve.app import create_app

        application = create_app(open_model(model, device=device), config)
        if is_open:
            print(f"anyone who reaches {host} may use it: there are no keys", file=sys.stderr)
        shown = f"[{host}]" if ":" in host else host
        print(f"{model} on http://{shown}:{listener.getsockname()[1]}", flush=True)
        server = uvicorn.Server(
            uvicorn.Config(
                application, log_level="info", timeout_graceful_shutdown=DRAIN_S, server_header=False
            )
        )
        server.run(sockets=[listener])
    return 0


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

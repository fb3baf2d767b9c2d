"""The application on a socket: uvicorn with this server's limits on connections and heads, and its drain."""

import uvicorn
from fastapi import FastAPI

from gpt.serve.config import ServeConfig
from gpt.serve.connection import TimedConnection
from gpt.serve.drain import DrainingServer

FAREWELL_S = 2
"""How long a connection may take over its last bytes when the drain is over."""


def http_server(app: FastAPI, config: ServeConfig) -> DrainingServer:
    """Return the server of an application of create_app; run it with its sockets."""
    limit = {"header_timeout_s": config.header_timeout_s}
    settings = uvicorn.Config(
        app,
        http=type("Connection", (TimedConnection,), limit),
        ws="none",
        h11_max_incomplete_event_size=config.max_header_bytes,
        limit_concurrency=config.max_connections,
        timeout_graceful_shutdown=FAREWELL_S,
        log_level="info",
        server_header=False,
    )
    return DrainingServer(settings, app.state.drain)

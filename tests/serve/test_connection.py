"""Connections that send no whole request: against uvicorn on a socket, in this process."""

import asyncio
import socket

import pytest

from gpt.catalog.open_model import OpenModel
from gpt.serve.app import create_app
from gpt.serve.config import ServeConfig
from gpt.serve.http_server import http_server


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET /health HTTP/1.1\r\nHost:",
    ],
)
def test_half_a_head_is_closed(opened: OpenModel, sent: bytes) -> None:
    """Guards: uvicorn keeps a connection for ever that sends nothing, or half a head (slowloris)."""
    config = ServeConfig(header_timeout_s=0.2)

    async def scene() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        server = http_server(create_app([opened], config), config)
        serving = asyncio.create_task(server._serve([listener]))
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        writer.write(sent)
        try:
            return await asyncio.wait_for(reader.read(), 60)
        finally:
            writer.close()
            server.should_exit = True
            await serving

    assert asyncio.run(scene()) == b""

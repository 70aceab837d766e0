"""The port of `adafocus watch`: a server beside the cameras, in the same event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import click
import uvicorn
from starlette.types import ASGIApp

from adafocus.cli.server import server_config
from adafocus.service.settings import Settings


class _Server(uvicorn.Server):
    """Leaves signals to the command."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """Bind a socket.

    Raises:
        ClickException: it cannot be bound.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --host and --port"
        ) from error


@contextlib.asynccontextmanager
async def serving_beside(app: ASGIApp, settings: Settings, listener: socket.socket) -> AsyncIterator[None]:
    """Serve an application around a block."""
    server = _Server(server_config(app, settings))
    running = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await running

"""uvicorn as this service runs it: it drains on a signal, and spares the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import signal
from collections.abc import Iterator
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from adafocus.cli.connections import ConnectionLimit, connections_for, raise_descriptor_limit
from adafocus.cli.http_protocol import http_protocol
from adafocus.service.http.state import ServerState
from adafocus.service.settings import Settings

BACKLOG = 2048
OBJECTS_BETWEEN_COLLECTIONS = 10_000

DRAIN_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))
"""Signals on which the service drains; on a second one it stops at once."""

logger = logging.getLogger("adafocus.serve")


def spare_the_collector() -> None:
    """Exempt everything that is loaded so far from garbage collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


class DrainingServer(uvicorn.Server):
    """A server that reports itself as not ready on SIGTERM, SIGHUP or SIGUSR1 and still accepts requests for a while.

    uvicorn closes its listener at once, and looks ten times a second whether it should.

    Attributes:
        tick_seconds: how often `on_tick` is called, which renews the ``Date`` header.
    """

    tick_seconds = 1.0

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        self._should_exit = False
        self._exiting = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        super().__init__(config)
        self._state = state

    @property
    def should_exit(self) -> bool:
        """Whether it should stop accepting, answer what has been accepted, and end; uvicorn sets it on signals."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, yes: bool) -> None:
        self._should_exit = yes
        if yes and self._loop is not None:
            self._loop.call_soon_threadsafe(self._exiting.set)  # which wakes a loop that a signal has interrupted

    async def main_loop(self) -> None:
        """Tick until the server should exit, and end then at once."""
        self._loop = asyncio.get_running_loop()
        try:
            while not await self.on_tick(0):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._exiting.wait(), self.tick_seconds)
        finally:
            self._loop = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle the further signals like SIGTERM, which uvicorn handles itself."""
        further = [number for number in DRAIN_SIGNALS if number != signal.SIGTERM]
        before = {number: signal.signal(number, self.handle_exit) for number in further}
        try:
            with super().capture_signals():
                yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain on the first signal; stop accepting at once on a second one or on Ctrl-C."""
        if sig not in DRAIN_SIGNALS or self._state.draining:
            super().handle_exit(sig, frame)
        else:
            self.drain(asyncio.get_running_loop())

    def drain(self, loop: asyncio.AbstractEventLoop) -> None:
        """Report unready, and stop after the grace period."""
        self._state.drain(loop, self.stop)

    def stop(self) -> None:
        """Stop accepting, answer what has been accepted, and end."""
        self.should_exit = True


def server_config(app: ASGIApp, settings: Settings) -> uvicorn.Config:
    """Return uvicorn's configuration for the application: protocol, limits and backlog."""
    most = settings.max_connections or connections_for(raise_descriptor_limit())
    of_one = settings.max_connections_per_caller or max(1, most // 2)
    return uvicorn.Config(
        app,
        http=http_protocol(settings.upload_timeout_seconds, ConnectionLimit(most, of_one)),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(settings.request_timeout_seconds),
    )

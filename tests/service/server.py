"""The real application behind a real uvicorn on loopback, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from adafocus.bundle.store import load_bundle
from adafocus.cli.server import server_config
from adafocus.service.app import create_app
from adafocus.service.http.state import ServerState
from adafocus.service.models.registry import Models
from adafocus.service.runtime import MakeRunner, make_runner
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics
from tests.e2e.tiny import write_tiny_bundle

LIMIT_SECONDS = 60


class Changes:
    """Lets tests wait for conditions that change only when the server counts something or says how far it has come."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    def tell(self, *_: object) -> None:
        """Wake those who wait; may be called from any thread."""
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds."""
        async with asyncio.timeout(LIMIT_SECONDS):
            while not condition():
                await self._changed.wait()

    def follow(self, metrics: Metrics) -> None:
        """Tell of everything that is counted from now on."""
        for name, method in inspect.getmembers(metrics, inspect.ismethod):
            if not name.startswith("_") and name != "render":
                setattr(metrics, name, self._after(method))

    def _after(self, method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def counted(*arguments: Any, **named: Any) -> None:
            method(*arguments, **named)
            self.tell()

        return counted


class ToldServer(uvicorn.Server):
    """Says when it has started, and leaves the signals to pytest."""

    def __init__(self, config: uvicorn.Config, changes: Changes) -> None:
        super().__init__(config)
        self.changes = changes

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.changes.tell()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@dataclass
class Running:
    """A server that answers."""

    app: FastAPI
    server: uvicorn.Server
    host: str
    port: int
    changes: Changes

    @property
    def service(self) -> ServerState:
        service: ServerState = self.app.state.service
        return service

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    def client(self, **options: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, timeout=30, trust_env=False, **options)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self.host, self.port)

    def metric(self, name: str, **labels: str) -> float:
        text = self.service.metrics.render("")[0].decode()
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        raise LookupError(name)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds that depends on metrics, on readiness, or on the start of the server."""
        await self.changes.until(condition)


def make_settings(folder: Path, **changes: Any) -> Settings:
    """Settings for a tiny bundle in a folder; the bundle is written if it is not there.

    The queue is as good as unbounded in time: on a slow machine nobody is to be refused whom a test does not expect.
    """
    bundle = folder / "tiny"
    if not bundle.exists():
        write_tiny_bundle(bundle)
    fields = {"bundle": bundle, "decode_workers": 1, "max_batch": 4, "intra_op_threads": 1, "max_queue_seconds": 60.0}
    return Settings(**{**fields, **changes})


def make_models(settings: Settings, metrics: Metrics) -> Models:
    """The models of a service with a single bundle, none of which is loaded."""
    bundle = load_bundle(settings.bundle)
    name = bundle.manifest.name
    return Models([bundle], name, lambda: {name: settings.bundle}, metrics)


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, runner: MakeRunner = make_runner, *, wait_until_ready: bool = True
) -> AsyncIterator[Running]:
    """Serve until the block ends."""
    failures: list[Exception] = []
    changes = Changes()

    def failed(error: Exception) -> None:
        failures.append(error)
        changes.tell()

    app = create_app(settings, runner=runner, on_failure=failed, on_ready=changes.tell)
    changes.follow(app.state.service.metrics)
    listener = socket.create_server(("127.0.0.1", 0))
    server = ToldServer(server_config(app, settings), changes)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    task.add_done_callback(changes.tell)
    host, port = listener.getsockname()
    running = Running(app, server, host, port, changes)
    try:
        await running.until(lambda: server.started or task.done())
        if wait_until_ready:
            await running.until(lambda: running.service.ready or bool(failures))
        if failures:
            raise failures[0]
        yield running
    finally:
        server.should_exit = True
        await task

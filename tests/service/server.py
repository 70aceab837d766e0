"""The real application behind a real uvicorn on loopback, in the test's own event loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from adafocus.cli.serve import server_config
from adafocus.service.app import create_app
from adafocus.service.http.state import ServerState
from adafocus.service.runtime import MakeRunner, make_runner
from adafocus.service.settings import Settings
from tests.e2e.tiny import write_tiny_bundle

PATIENCE_TURNS = 2000
TURN_SECONDS = 0.01


class QuietServer(uvicorn.Server):
    """Leaves the signals to pytest."""

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
        """Wait for something that other tasks bring about, with an end to patience."""
        await until(condition)


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(PATIENCE_TURNS):
        if condition():
            return
        await asyncio.sleep(TURN_SECONDS)
    raise AssertionError("waited in vain")


def make_settings(folder: Path, **changes: Any) -> Settings:
    """Settings for a tiny bundle in a folder; the bundle is written if it is not there."""
    bundle = folder / "tiny"
    if not bundle.exists():
        write_tiny_bundle(bundle)
    fields = {"bundle": bundle, "decode_workers": 1, "max_batch": 4, "intra_op_threads": 1, **changes}
    return Settings(**fields)


@contextlib.asynccontextmanager
async def serving(
    settings: Settings, runner: MakeRunner = make_runner, *, wait_until_ready: bool = True
) -> AsyncIterator[Running]:
    """Serve until the block ends."""
    failures: list[Exception] = []
    app = create_app(settings, runner=runner, on_failure=failures.append)
    listener = socket.create_server(("127.0.0.1", 0))
    server = QuietServer(server_config(app, settings))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    host, port = listener.getsockname()
    running = Running(app, server, host, port)
    try:
        await until(lambda: server.started)
        if wait_until_ready:
            await until(lambda: running.service.ready or bool(failures))
        if failures:
            raise failures[0]
        yield running
    finally:
        server.should_exit = True
        await task

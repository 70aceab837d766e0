"""`adafocus serve`: run the HTTP service."""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import os
import signal
import socket
from pathlib import Path
from types import FrameType

import click
import uvicorn
from fastapi import FastAPI

from adafocus.bundle.store import BundleError
from adafocus.cli.configuration import settings_from, shipped_samples
from adafocus.cli.http_protocol import http_protocol
from adafocus.service.app import create_app
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.http.keys import KeyFileError
from adafocus.service.http.state import ServerState
from adafocus.service.settings import Settings, describe, misspelt
from adafocus.service.telemetry import logs
from adafocus.service.telemetry.tracing import TracingError

BACKLOG = 2048

logger = logging.getLogger("adafocus.serve")


OBJECTS_BETWEEN_COLLECTIONS = 10_000


def spare_the_collector() -> None:
    """Exempt everything that is loaded so far from garbage collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)


class ServeCommand(click.Command):
    """A command whose help ends with every setting and its default."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the settings and the example."""
        with formatter.section("Settings, read from the environment (options override them)"):
            formatter.write_dl(list(describe()))
        super().format_epilog(ctx, formatter)


class DrainingServer(uvicorn.Server):
    """A server that reports itself as not ready on SIGTERM and still accepts requests for a while.

    uvicorn closes its listener at once.
    """

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start to drain on the first SIGTERM; stop accepting at once on a second one or on Ctrl-C."""
        if sig != signal.SIGTERM or self._state.draining:
            super().handle_exit(sig, frame)
        else:
            self._state.drain(asyncio.get_running_loop(), self._exit)

    def _exit(self) -> None:
        self.should_exit = True


@click.command(
    "serve",
    cls=ServeCommand,
    epilog="Example: adafocus serve --bundle bundles/tank-state --port 8000",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder of the bundle; default: the shipped bundle.")
@click.option("--host", help="Address to listen on; default: 127.0.0.1.")
@click.option("--port", type=int, help="Port to listen on; default: 8000; 0: any free port.")
@click.option("--backend", metavar="NAME", help="Runtime, such as onnxruntime-cpu; default: the best one installed.")
def command(bundle: Path | None, host: str | None, port: int | None, backend: str | None) -> None:
    """Serve a bundle over HTTP until SIGTERM or Ctrl-C."""
    settings = settings_from(
        {"bundle": bundle, "host": host, "port": port, "backend": backend, "samples": shipped_samples()}
    )
    logs.configure()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    for name, meant in misspelt(os.environ):
        logger.warning("%s is not a setting; did you mean %s?", name, meant)
    failures: list[Exception] = []

    def stop(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    try:
        app = create_app(settings, on_failure=stop, on_ready=spare_the_collector)
    except (BundleError, KeyFileError, TracingError) as error:
        raise click.ClickException(str(error)) from error
    listener = _listen(settings.host, settings.port)
    server = DrainingServer(server_config(app, settings), app.state.service)
    server.run(sockets=[listener])
    for failure in failures:
        raise failure if not isinstance(failure, RunnerError | OSError) else click.ClickException(str(failure))


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How uvicorn serves the application: protocol, time limits and backlog."""
    return uvicorn.Config(
        app,
        http=http_protocol(settings.upload_timeout_seconds),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=math.ceil(settings.request_timeout_seconds),
    )


def _listen(host: str, port: int) -> socket.socket:
    """Bind a socket before the model is loaded, so that a port in use is reported at once."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen on {host} port {port} ({error.strerror}); choose another with --host and --port"
        ) from error
    logger.info(
        "listening",
        extra={"fields": {"url": f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"}},
    )
    return listener

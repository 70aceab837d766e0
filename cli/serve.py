"""`adafocus serve`: run the HTTP service."""

from __future__ import annotations

import logging
import os
import socket
from pathlib import Path

import click

from adafocus.bundle.store import BundleError, load_bundle
from adafocus.cli.configuration import settings_from, shipped_samples
from adafocus.cli.fronts.supervisor import FrontError, supervise
from adafocus.cli.server import DrainingServer, server_config, spare_the_collector
from adafocus.service.app import create_app
from adafocus.service.cores import takes_a_gpu
from adafocus.service.cpu import usable_cores
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.http.keys import KeyFileError
from adafocus.service.settings import Settings, describe, misspelt
from adafocus.service.telemetry import logs
from adafocus.service.telemetry.tracing import TracingError

CORES_PER_FRONT, MAX_FRONTS = 4, 8
"""On a GPU: an event loop and its decoders keep about so many cores busy."""

logger = logging.getLogger("adafocus.serve")


class ServeCommand(click.Command):
    """A command whose help ends with every setting and its default."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the settings and the example."""
        with formatter.section("Settings, read from the environment (options override them)"):
            formatter.write_dl(list(describe()))
        super().format_epilog(ctx, formatter)


@click.command(
    "serve",
    cls=ServeCommand,
    epilog="Example: adafocus serve --bundle bundles/sky --port 8000",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder of the bundle; default: the shipped bundle.")
@click.option(
    "--bundles",
    type=click.Path(path_type=Path),
    help="Folder of bundles: all are served, each under the name of its folder.",
)
@click.option("--host", help="Address to listen on; default: 127.0.0.1.")
@click.option("--port", type=int, help="Port to listen on; default: 8000; 0: any free port.")
@click.option("--backend", metavar="NAME", help="Runtime, such as onnxruntime-cpu; default: the best one installed.")
@click.option("--fronts", type=int, help="Processes that serve HTTP, with one engine; default: 1 without a GPU.")
def command(**given: object) -> None:
    """Serve a bundle, or all of a folder, over HTTP until SIGTERM or Ctrl-C."""
    if given["bundle"] is not None and given["bundles"] is not None:
        raise click.UsageError("--bundle and --bundles exclude each other; give one of them")
    settings = settings_from({**given, "samples": shipped_samples()})
    logs.configure()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    for name, meant in misspelt(os.environ):
        logger.warning("%s is not a setting; did you mean %s?", name, meant)
    try:
        fronts = fronts_of(settings)
        if fronts > 1:
            supervise(settings, fronts, _listen(settings.host, settings.port))
        else:
            _serve(settings)
    except (BundleError, KeyFileError, TracingError, FrontError) as error:
        raise click.ClickException(str(error)) from error


def fronts_of(settings: Settings) -> int:
    """How many processes serve HTTP: one, unless the settings or a GPU say otherwise.

    Raises:
        BundleError: the bundle cannot be read.
    """
    if settings.fronts is not None:
        return settings.fronts
    if settings.bundles is not None:
        return 1
    if usable_cores() < 2 * CORES_PER_FRONT or not takes_a_gpu(load_bundle(settings.bundle), settings):
        return 1
    return min(MAX_FRONTS, usable_cores() // CORES_PER_FRONT)


def _serve(settings: Settings) -> None:
    """Serve in this process.

    Raises:
        BundleError: the bundle cannot be read.
        KeyFileError: the key file cannot be used.
        TracingError: traces are configured, but cannot be sent.
    """
    failures: list[Exception] = []

    def stop(error: Exception) -> None:
        failures.append(error)
        server.should_exit = True

    app = create_app(settings, on_failure=stop, on_ready=spare_the_collector)
    listener = _listen(settings.host, settings.port)
    server = DrainingServer(server_config(app, settings), app.state.service)
    server.run(sockets=[listener])
    for failure in failures:
        raise failure if not isinstance(failure, RunnerError | OSError) else click.ClickException(str(failure))


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

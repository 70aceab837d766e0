"""`adafocus watch`: live streams in, windows and events out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

import click

from adafocus.bundle.store import Bundle, BundleError, load_bundle
from adafocus.cli.camera_server import listen, serving_beside
from adafocus.cli.configuration import settings_from
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.http.cameras import create_cameras_app
from adafocus.service.http.keys import KeyFileError
from adafocus.service.live.camera import CameraWatch
from adafocus.service.live.config import Cameras, CamerasError, load_cameras
from adafocus.service.live.mqtt import Mqtt, MqttUnavailableError, parse_broker
from adafocus.service.live.outputs import JsonLines, Output, QueuedOutput, Row, Webhook
from adafocus.service.runtime import make_runner, open_runtime
from adafocus.service.schemas.cameras import CamerasReport
from adafocus.service.settings import Settings
from adafocus.service.telemetry.camera_definitions import Channel
from adafocus.service.telemetry.camera_metrics import CameraMetrics
from adafocus.service.telemetry.metrics import Metrics

_FLUSH_SECONDS = 10.0


@click.command("watch", epilog="Example: adafocus watch cameras.toml --out events.jsonl")
@click.argument("cameras", metavar="CAMERAS.toml", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder of the bundle; default: the shipped bundle.")
@click.option("--backend", metavar="NAME", help="Runtime, such as onnxruntime-cpu; default: the best one installed.")
@click.option("--out", type=click.Path(path_type=Path), help="Append rows to this file; default: print them.")
@click.option("--port", type=int, help="Serve a page of the cameras, /cameras and /metrics on this port; 0: any.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
def command(
    cameras: Path, bundle: Path | None, backend: str | None, out: Path | None, port: int | None, host: str
) -> int:
    """Watch the streams that a file names: RTSP, MPEG-TS or HLS over HTTP, and video files at their own pace.

    Each stream is cut into windows at key frames and each window is classified. The rows are JSON Lines: `window`,
    `begin` and `end` of an event, `connected` and `lost`. Where classification falls behind, the newest window wins. A
    stream that stops is opened again. The command ends with Ctrl-C, or when all files have ended.
    """
    settings = settings_from({"bundle": bundle, "backend": backend})
    try:
        loaded = load_bundle(settings.bundle)
        watched = load_cameras(cameras)
        watched.check(loaded.manifest)
        with contextlib.ExitStack() as stack:
            listener = None if port is None else stack.enter_context(listen(host, port))
            stream = stack.enter_context(out.open("a", encoding="utf-8")) if out else sys.stdout
            states = asyncio.run(_Watch(watched, loaded, settings, stream, listener).run())
    except (BundleError, CamerasError, RunnerError, KeyFileError, MqttUnavailableError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    for line in states:
        click.echo(f"adafocus: {line}", err=True)
    return 0


class _Outputs:
    """Passes each row on to all outputs."""

    def __init__(self, *outputs: Output) -> None:
        self._outputs = outputs

    def put(self, row: Row) -> None:
        """Pass a row on."""
        for output in self._outputs:
            output.put(row)


@dataclass
class _Watch:
    """One run of the command."""

    cameras: Cameras
    bundle: Bundle
    settings: Settings
    stream: TextIO
    listener: socket.socket | None

    async def run(self) -> list[str]:
        """Watch until all cameras have ended or the process is told to stop; returns a line about each camera."""
        metrics = Metrics(self.bundle.manifest.steps)
        of_cameras = CameraMetrics([camera.name for camera in self.cameras.camera], time.time())
        metrics.include(of_cameras.collect)
        queued = self._queued(of_cameras)
        outputs = _Outputs(JsonLines(self.stream), *queued)
        async with contextlib.AsyncExitStack() as stack:
            runtime = await stack.enter_async_context(open_runtime(self.bundle, self.settings, metrics, make_runner))
            metrics.ready(True)
            watches = [CameraWatch(camera, runtime, outputs, of_cameras) for camera in self.cameras.camera]
            if self.listener is not None:
                await stack.enter_async_context(self._serving(metrics, watches, self.listener))
            async with _delivering(queued):
                await _until_over(watches)
        return [_told(watch) for watch in watches]

    def _queued(self, metrics: CameraMetrics) -> list[QueuedOutput]:
        """The outputs that deliver on their own time."""
        found: list[tuple[Channel, QueuedOutput]] = []
        hook, mqtt = self.cameras.webhook, self.cameras.mqtt
        if hook is not None:
            found.append(("webhook", Webhook(hook.url, hook.secret.get_secret_value(), wall_clock=time.time)))
        if mqtt is not None:
            found.append(("mqtt", Mqtt(parse_broker(mqtt.url.get_secret_value()), mqtt.topic)))
        for channel, output in found:
            output.on_outcome = partial(_count, metrics, channel)
        return [output for _, output in found]

    def _serving(
        self, metrics: Metrics, watches: list[CameraWatch], listener: socket.socket
    ) -> contextlib.AbstractAsyncContextManager[None]:
        def report() -> CamerasReport:
            return CamerasReport(cameras=tuple(watch.state.report() for watch in watches))

        host, port = listener.getsockname()[:2]
        click.echo(f"adafocus: the cameras are at http://{f'[{host}]' if ':' in host else host}:{port}/", err=True)
        return serving_beside(create_cameras_app(self.settings, metrics, report), self.settings, listener)


def _count(metrics: CameraMetrics, channel: Channel, delivered: bool) -> None:
    metrics.notified(channel, "delivered" if delivered else "dropped")


@contextlib.asynccontextmanager
async def _delivering(outputs: list[QueuedOutput]) -> AsyncIterator[None]:
    """Deliver events around a block, and what is left after it, but not for long."""
    running = [asyncio.create_task(output.run()) for output in outputs]
    try:
        yield
    finally:
        await asyncio.gather(*(output.flush(_FLUSH_SECONDS) for output in outputs))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for output in outputs:
            await output.close()


async def _until_over(watches: list[CameraWatch]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):  # only the main thread may
            loop.add_signal_handler(number, stopping.set)
    running = asyncio.ensure_future(_run_all(watches))
    stopped = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait([running, stopped], return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
    finally:
        running.cancel()
        stopped.cancel()
        await asyncio.gather(running, stopped, return_exceptions=True)


async def _run_all(watches: list[CameraWatch]) -> bool:
    async with asyncio.TaskGroup() as group:
        for watch in watches:
            group.create_task(watch.run())
    return True


def _told(watch: CameraWatch) -> str:
    state = watch.state
    return (
        f"{watch.camera.name}: {state.windows} windows, {state.dropped} dropped, opened {state.connections} times, "
        f"{state.gflops:.3g} GFLOPs"
    )

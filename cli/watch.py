"""`adafocus watch`: live streams in, windows and events out."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path
from typing import TextIO

import click

from adafocus.bundle.store import Bundle, BundleError, load_bundle
from adafocus.cli.configuration import settings_from
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.live.camera import CameraWatch
from adafocus.service.live.config import Cameras, CamerasError, load_cameras
from adafocus.service.live.outputs import JsonLines, Output, Row, Webhook
from adafocus.service.runtime import make_runner, open_runtime
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics

_FLUSH_SECONDS = 10.0


@click.command("watch", epilog="Example: adafocus watch cameras.toml --out events.jsonl")
@click.argument("cameras", metavar="CAMERAS.toml", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder of the bundle; default: the shipped bundle.")
@click.option("--backend", metavar="NAME", help="Runtime, such as onnxruntime-cpu; default: the best one installed.")
@click.option("--out", type=click.Path(path_type=Path), help="Append rows to this file; default: print them.")
def command(cameras: Path, bundle: Path | None, backend: str | None, out: Path | None) -> int:
    """Watch the streams that a file names: MPEG-TS or HLS over HTTP, and video files at their own pace.

    Each stream is cut into windows at key frames and each window is classified. The rows are JSON Lines: `window`,
    `begin` and `end` of an event, `connected` and `lost`. Where classification falls behind, the newest window wins. A
    stream that stops is opened again. The command ends with Ctrl-C, or when all files have ended.
    """
    settings = settings_from({"bundle": bundle, "backend": backend})
    try:
        loaded = load_bundle(settings.bundle)
        watched = load_cameras(cameras)
        watched.check(loaded.manifest)
        with out.open("a", encoding="utf-8") if out else contextlib.nullcontext(sys.stdout) as stream:
            states = asyncio.run(_watch(watched, loaded, settings, stream))
    except (BundleError, CamerasError, RunnerError, ValueError) as error:
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


async def _watch(cameras: Cameras, bundle: Bundle, settings: Settings, stream: TextIO) -> list[str]:
    """Watch until all cameras have ended or the process is told to stop; returns a line about each camera."""
    hook = cameras.webhook
    webhook = None if hook is None else Webhook(hook.url, hook.secret.get_secret_value(), wall_clock=time.time)
    outputs = _Outputs(JsonLines(stream), *([] if webhook is None else [webhook]))
    async with open_runtime(bundle, settings, Metrics(bundle.manifest.steps), make_runner) as runtime:
        watches = [CameraWatch(camera, runtime, outputs, time.time) for camera in cameras.camera]
        posting = None if webhook is None else asyncio.create_task(webhook.run())
        await _until_over(watches)
        if webhook is not None and posting is not None:
            await webhook.flush(_FLUSH_SECONDS)
            posting.cancel()
            await asyncio.gather(posting, return_exceptions=True)
            await webhook.close()
    return [_told(watch) for watch in watches]


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

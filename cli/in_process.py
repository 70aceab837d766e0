"""Classifies videos with the engine of the service in this process, for the verbs that need no HTTP."""

from __future__ import annotations

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click

from adafocus.bundle.store import Bundle, BundleError, load_bundle
from adafocus.cli.contact_sheet import Looked
from adafocus.cli.video_urls import VideoUrl
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.errors import BadParameter, EmptyBody, Internal, Problem
from adafocus.service.progress import StepReport
from adafocus.service.reception import Body, Video, is_regular_file
from adafocus.service.runtime import Runtime, make_runner, open_runtime
from adafocus.service.schemas.parameters import Parameters, parse_parameters
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics
from adafocus.service.windows import classify_video

_CHUNK_BYTES = 1 << 20

UNBOUNDED = {
    "max_upload_bytes": sys.maxsize,
    "request_timeout_seconds": 86_400.0,
    "max_windowed_seconds": 7 * 86_400.0,
    "windows_timeout_seconds": 7 * 86_400.0,
    "max_windows": sys.maxsize,
}
"""Limits that protect a service from strangers do not apply to the user's own files."""

Named = Path | VideoUrl
"""A video that the command line names."""

UNREADABLE = "unreadable"
"""The code of a file that could not be read; the other codes are those of the HTTP API."""


@dataclass(frozen=True, slots=True)
class VideoInput:
    """A video to classify.

    Attributes:
        name: what the results call it.
        path: where its bytes are.
    """

    name: str
    path: Named


@dataclass(frozen=True, slots=True)
class Failure:
    """A video without an answer, and why."""

    code: str
    detail: str


Report = Callable[[VideoInput, Looked | Failure], None]
IdOf = Callable[[VideoInput], str]


def random_id(video: VideoInput) -> str:
    """An id that no other answer has."""
    return uuid.uuid4().hex


def load_and_parse(settings: Settings, asked: dict[str, str | None]) -> tuple[Bundle, Parameters]:
    """Load the bundle, and read the parameters of a request from options; None is an option that was not given.

    Raises:
        click.ClickException: the bundle cannot be loaded.
        click.UsageError: a parameter is out of range.
    """
    try:
        bundle = load_bundle(settings.bundle)
        given = [(name, value) for name, value in asked.items() if value is not None]
        return bundle, parse_parameters(given, bundle.manifest)
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    except BadParameter as error:
        raise click.UsageError(error.detail) from error


def run(
    videos: Iterable[VideoInput],
    bundle: Bundle,
    settings: Settings,
    ask: Parameters,
    report: Report,
    *,
    steps: bool = False,
    id_of: IdOf = random_id,
) -> None:
    """Classify as many videos at once as the engine has slots, and report each as soon as it is done.

    Args:
        videos: taken one by one as slots become free.
        bundle: the model.
        settings: of the engine and the decoders.
        ask: the parameters of every video.
        report: called in this thread, once for each video.
        steps: keep what was seen at each step, to be drawn.
        id_of: the ``id`` of a video's answer.

    Raises:
        click.ClickException: the backend cannot run here, or the engine has stopped.
    """

    async def classify_in_runtime() -> None:
        async with open_engine(bundle, settings) as runtime:
            await classify_all(runtime, videos, ask, report, steps=steps, id_of=id_of)

    try:
        asyncio.run(classify_in_runtime())
    except RunnerError as error:
        raise click.ClickException(str(error)) from error


def open_engine(bundle: Bundle, settings: Settings) -> AbstractAsyncContextManager[Runtime]:
    """Open the engine and the decoders for the length of a block.

    Raises:
        RunnerError: the backend cannot run here.
    """
    return open_runtime(bundle, settings, Metrics(bundle.manifest.steps), make_runner)


async def classify_all(
    runtime: Runtime,
    videos: Iterable[VideoInput],
    ask: Parameters,
    report: Report,
    *,
    steps: bool = False,
    id_of: IdOf = random_id,
) -> None:
    """Classify videos with an engine that is open; the arguments are those of `run`.

    Raises:
        click.ClickException: the engine has stopped.
    """
    waiting = iter(videos)
    running: dict[asyncio.Task[Looked | Failure], VideoInput] = {}
    try:
        while True:
            for video in islice(waiting, runtime.engine.admission.slots - len(running)):
                running[asyncio.create_task(_classify(runtime, video, ask, id_of(video), steps=steps))] = video
            if not running:
                break
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task in done]:
                _check_engine(runtime, task.result())
                report(running[task], task.result())
                del running[task]
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _check_engine(runtime: Runtime, result: Looked | Failure) -> None:
    """Tell a video that failed from an engine that did: then every further video would get an error row.

    Raises:
        click.ClickException: the engine has stopped.
    """
    if isinstance(result, Failure) and not runtime.engine.alive:
        raise click.ClickException(f"the engine stopped: {result.detail}; run the command again to continue")


async def _classify(
    runtime: Runtime, video: VideoInput, ask: Parameters, request_id: str, *, steps: bool
) -> Looked | Failure:
    reports: list[StepReport] = []
    try:
        body = await asyncio.to_thread(_opened, video.path, runtime.settings)
        answer = await classify_video(runtime, body, ask, request_id, reports.append if steps else None)
    except EmptyBody as problem:
        return Failure(problem.code, "the file is empty")
    except Problem as problem:
        # A client must not learn the cause of an internal error; here the client is the owner of the machine.
        cause = problem.__cause__ if isinstance(problem, Internal) else None
        return Failure(problem.code, str(cause or problem.detail))
    except OSError as error:
        return Failure(UNREADABLE, error.strerror or str(error))
    named = video.path
    return Looked(named.name if isinstance(named, VideoUrl) else click.format_filename(named.name), answer, reports)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(file.open, "rb") as stream:
        while chunk := await asyncio.to_thread(stream.read, _CHUNK_BYTES):
            yield chunk


def _opened(video: Named, settings: Settings) -> Video:
    """What reads a URL, a file as it is, or the bytes of a pipe as they come."""
    if isinstance(video, VideoUrl):
        return video.source(settings)
    return video if is_regular_file(video) else Body(_chunks(video))

"""`adafocus classify`: classify files and folders with the engine of the service, without HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import click
from tqdm import tqdm

from adafocus.bundle.store import Bundle, BundleError, load_bundle
from adafocus.cli.completion import operating_points
from adafocus.cli.configuration import settings_from
from adafocus.cli.contact_sheet import ContactSheet, Looked
from adafocus.cli.jsonlines import JsonLinesFile
from adafocus.cli.videos import VideoPath, find_videos
from adafocus.service.classify import Body, classify
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.errors import BadParameter, EmptyBody, Internal, Problem
from adafocus.service.progress import StepReport
from adafocus.service.runtime import Runtime, make_runner, open_runtime
from adafocus.service.schemas.classify import Classification, Parameters, parse_parameters
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics

_CHUNK_BYTES = 1 << 20
_UNBOUNDED = {"max_upload_bytes": sys.maxsize, "request_timeout_seconds": 86_400.0}
"""Limits that protect a service from strangers do not apply to the user's own files."""

UNREADABLE = "unreadable"
"""The code of a file that could not be read; the other codes are those of the HTTP API."""


@click.command("classify", epilog="Example: adafocus classify samples --exit balanced --out answers.jsonl")
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=VideoPath())
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder of the bundle; default: the shipped bundle.")
@click.option("--backend", metavar="NAME", help="Runtime, such as onnxruntime-cpu; default: the best one installed.")
@click.option(
    "--exit",
    "exit_point",
    metavar="POINT",
    shell_complete=operating_points,
    help="Operating point; default: the default point of the bundle.",
)
@click.option("--top-k", metavar="N", help="Number of predictions; default: 5, or all classes if there are fewer.")
@click.option("--max-gflops", metavar="X", help="Maximum compute for each video, in GFLOPs.")
@click.option("--trace", is_flag=True, help="With --json or --out: add an entry for each step.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object for each video.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Append results to this JSON Lines file; skip videos that it has."
)
@click.option(
    "--draw",
    metavar="FILE.png",
    type=click.Path(path_type=Path),
    help="Draw the frames used and their patches as a contact sheet.",
)
def command(
    videos: tuple[Path, ...],
    bundle: Path | None,
    backend: str | None,
    exit_point: str | None,
    top_k: str | None,
    max_gflops: str | None,
    trace: bool,
    as_json: bool,
    out: Path | None,
    draw: Path | None,
) -> int:
    """Classify video files and the videos in folders, and print each result as soon as it is known.

    A file that cannot be classified is reported on standard error, with --json or --out also as an error row, and the
    run goes on; the exit code is then 1. In a folder, hidden files and folders are left out and links are followed.
    """
    settings = settings_from({"bundle": bundle, "backend": backend, **_UNBOUNDED})
    asked = {"exit": exit_point, "top_k": top_k, "max_gflops": max_gflops, "trace": "true" if trace else None}
    try:
        loaded = load_bundle(settings.bundle)
        ask = parse_parameters([(name, value) for name, value in asked.items() if value is not None], loaded.manifest)
    except BundleError as error:
        raise click.ClickException(str(error)) from error
    except BadParameter as error:
        raise click.UsageError(error.detail) from error
    found = find_videos(videos)
    files = found.files
    with JsonLinesFile(out) if out else nullcontext() as store:
        failed_before = 0
        if store is not None:
            failed_before = sum(str(file) in store.failed for file in files)
            files = _without_rows(files, store)
        sheet = ContactSheet.at(draw, loaded.manifest, len(files)) if draw else None
        report = _Report(as_json, store, sheet, files)
        try:
            asyncio.run(_classify_all(files, loaded, settings, ask, report, steps=sheet is not None))
        except RunnerError as error:
            raise click.ClickException(str(error)) from error
        finally:
            report.close()
        report.draw()
    return 1 if report.failed or failed_before or found.unreadable else 0


def _without_rows(files: list[Path], store: JsonLinesFile) -> list[Path]:
    """The files that have no row in the output file yet; print how many have one."""
    rest = [file for file in files if str(file) not in store.keys]
    done = len(files) - len(rest)
    if done:
        failed = sum(str(file) in store.failed for file in files)
        note = f"; {failed} of them with an error" if failed else ""
        where = click.format_filename(store.path)
        click.echo(f"adafocus: skipped {done} of {len(files)} videos that are in {where} already{note}", err=True)
    return rest


@dataclass(frozen=True, slots=True)
class _Failure:
    """A file without an answer, and why."""

    code: str
    detail: str


class _Report:
    """Writes results to the terminal, as text or as JSON, and to the output file."""

    def __init__(
        self, as_json: bool, store: JsonLinesFile | None, sheet: ContactSheet | None, files: Sequence[Path]
    ) -> None:
        self.failed = 0
        self._as_json = as_json
        self._store = store
        self._sheet = sheet
        self._drawn: dict[Path, Looked] = {}
        self._files = files
        self._bar = tqdm(total=len(files), unit="video", disable=not sys.stderr.isatty(), leave=False, delay=1)

    def add(self, file: Path, result: Looked | _Failure) -> None:
        """Report one file."""
        if isinstance(result, _Failure):
            self.failed += 1
            row = {"file": str(file), "error": {"code": result.code, "detail": result.detail}}
            line = f"adafocus: {click.format_filename(file)}: {result.detail} ({result.code})"
            tqdm.write(line, file=sys.stderr)
        else:
            row = {"file": str(file), **json.loads(result.answer.to_json())}
            if self._sheet is not None:
                self._drawn[file] = result
            if not self._as_json:
                tqdm.write(_summary(file, result.answer), file=sys.stdout)
        if self._store is not None:
            self._store.append(row)
        if self._as_json:
            tqdm.write(json.dumps(row), file=sys.stdout)
        self._bar.update()

    def draw(self) -> None:
        """Draw the videos that were answered, in the order in which they were named."""
        if self._sheet is not None:
            for file in self._files:
                if file in self._drawn:
                    self._sheet.add(self._drawn[file])
            self._sheet.write()

    def close(self) -> None:
        """Remove the progress bar."""
        self._bar.close()


async def _classify_all(
    files: Iterable[Path], bundle: Bundle, settings: Settings, ask: Parameters, report: _Report, *, steps: bool
) -> None:
    """Classify as many videos at once as the engine has slots, and report each as soon as it is done."""
    waiting = iter(files)
    running: dict[asyncio.Task[Looked | _Failure], Path] = {}
    async with open_runtime(bundle, settings, Metrics(bundle.manifest.steps), make_runner) as runtime:
        try:
            while True:
                for file in islice(waiting, runtime.engine.admission.slots - len(running)):
                    running[asyncio.create_task(_classify(runtime, file, ask, steps=steps))] = file
                if not running:
                    break
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in running if task in done]:
                    _check_engine(runtime, task.result())
                    report.add(running[task], task.result())
                    del running[task]
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _check_engine(runtime: Runtime, result: Looked | _Failure) -> None:
    """Tell a video that failed from an engine that did: then every further video would get an error row.

    Raises:
        click.ClickException: the engine has stopped.
    """
    if isinstance(result, _Failure) and not runtime.engine.alive:
        raise click.ClickException(f"the engine stopped: {result.detail}; run the command again to continue")


async def _classify(runtime: Runtime, file: Path, ask: Parameters, *, steps: bool) -> Looked | _Failure:
    """Classify one file; with ``steps``, keep what was seen at each step, to be drawn."""
    reports: list[StepReport] = []
    try:
        body = Body(_chunks(file), expected_bytes=await asyncio.to_thread(_size, file))
        answer = await classify(runtime, body, ask, uuid.uuid4().hex, reports.append if steps else None)
    except EmptyBody as problem:
        return _Failure(problem.code, "the file is empty")
    except Problem as problem:
        # A client must not learn the cause of an internal error; here the client is the owner of the machine.
        cause = problem.__cause__ if isinstance(problem, Internal) else None
        return _Failure(problem.code, str(cause or problem.detail))
    except OSError as error:
        return _Failure(UNREADABLE, error.strerror or str(error))
    return Looked(click.format_filename(file.name), answer, reports)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(file.open, "rb") as stream:
        while chunk := await asyncio.to_thread(stream.read, _CHUNK_BYTES):
            yield chunk


def _size(file: Path) -> int | None:
    """The size of a file in bytes; None for a pipe, whose size is not known in advance."""
    return file.stat().st_size if file.is_file() else None


def _summary(file: Path, answer: Classification) -> str:
    best, left, cost = answer.predictions[0], answer.exit, answer.compute
    name = click.format_filename(file)
    return (
        f"{name}: {best.label} {best.score:.3f} · step {left.step}/{left.steps} ({left.reason}) · "
        f"{cost.gflops:.3g} of {cost.gflops_full:.3g} GFLOPs"
    )

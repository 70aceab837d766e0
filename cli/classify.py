"""`adafocus classify`: the engine without HTTP, for files and folders."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import click
from tqdm import tqdm

from bundle.store import Bundle, BundleError, load_bundle
from cli.completion import operating_points
from cli.configuration import settings_from
from cli.contact_sheet import ContactSheet, Looked
from cli.jsonlines import JsonLinesFile
from cli.videos import VideoPath, videos_at
from service.classify import Body, classify
from service.engine.runners.base import RunnerError
from service.errors import BadParameter, EmptyBody, Internal, Problem
from service.progress import StepReport
from service.runtime import Runtime, make_runner, open_runtime
from service.schemas.classify import Classification, Parameters, parse_parameters
from service.settings import Settings
from service.telemetry.metrics import Metrics

_CHUNK_BYTES = 1 << 20
_UNBOUNDED = {"max_upload_bytes": sys.maxsize, "request_timeout_seconds": 86_400.0}
"""What protects a service from strangers does not stand in the way of one's own files."""


@click.command("classify", epilog="Example: adafocus classify samples --exit balanced --out answers.jsonl")
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=VideoPath())
@click.option("--bundle", type=click.Path(path_type=Path), help="Folder of the bundle; default: the one shipped.")
@click.option("--backend", metavar="NAME", help="Runtime, as onnxruntime-cpu; default: the best one installed.")
@click.option(
    "--exit",
    "exit_point",
    metavar="POINT",
    shell_complete=operating_points,
    help="Operating point; default: the bundle's own choice.",
)
@click.option("--top-k", metavar="N", help="How many predictions; default 5, or all if there are fewer.")
@click.option("--max-gflops", metavar="X", help="Hard cap on the compute of each video.")
@click.option("--trace", is_flag=True, help="With --json or --out: one entry per step.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per video.")
@click.option("--out", type=click.Path(path_type=Path), help="Add answers to this JSON Lines file; skip what it has.")
@click.option(
    "--draw", metavar="FILE.png", type=click.Path(path_type=Path), help="Draw what was looked at, as a sheet."
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
    """Classify video files, and the videos in folders.

    A file that cannot be used is reported in one line and the run goes on; the exit code is then 1.
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
    files = videos_at(videos)
    with JsonLinesFile(out) if out else nullcontext() as store:
        if store is not None:
            files = _unanswered(files, store)
        sheet = ContactSheet.at(draw, loaded.manifest, len(files)) if draw else None
        report = _Report(as_json, store, sheet, total=len(files))
        try:
            asyncio.run(_classify_all(files, loaded, settings, ask, report))
        except RunnerError as error:
            raise click.ClickException(str(error)) from error
        finally:
            report.close()
        if sheet is not None:
            sheet.write()
    return 1 if report.failed else 0


def _unanswered(files: list[Path], store: JsonLinesFile) -> list[Path]:
    """Those that the file of answers does not have; says how many it has, whatever they were asked with."""
    rest = [file for file in files if str(file) not in store.keys]
    if len(rest) < len(files):
        found = f"{len(files) - len(rest)} of {len(files)} videos are answered in {click.format_filename(store.path)}"
        click.echo(f"adafocus: {found}, and skipped", err=True)
    return rest


@dataclass(frozen=True, slots=True)
class _Failure:
    """A file without an answer, and why."""

    reason: str


class _Report:
    """Where answers go: to the terminal or as JSON, and to the file of answers."""

    def __init__(self, as_json: bool, store: JsonLinesFile | None, sheet: ContactSheet | None, total: int) -> None:
        self.failed = 0
        self._as_json = as_json
        self._store = store
        self._sheet = sheet
        self._bar = tqdm(total=total, unit="video", disable=not sys.stderr.isatty(), leave=False, delay=1)

    @property
    def drawn(self) -> bool:
        """Whether the steps of each video are wanted."""
        return self._sheet is not None

    def add(self, file: Path, result: Looked | _Failure) -> None:
        """Report one file."""
        if isinstance(result, _Failure):
            self.failed += 1
            tqdm.write(f"adafocus: {click.format_filename(file)}: {result.reason}", file=sys.stderr)
        else:
            line = json.dumps({"file": str(file), **json.loads(result.answer.to_json())})
            if self._store is not None:
                self._store.append(str(file), line)
            tqdm.write(line if self._as_json else _summary(file, result.answer), file=sys.stdout)
            if self._sheet is not None:
                self._sheet.add(result)
        self._bar.update()

    def close(self) -> None:
        """Leave the terminal clean."""
        self._bar.close()


async def _classify_all(
    files: Iterable[Path], bundle: Bundle, settings: Settings, ask: Parameters, report: _Report
) -> None:
    """Classify as many at once as the engine has slots, and report in order."""
    running: deque[tuple[Path, asyncio.Task[Looked | _Failure]]] = deque()
    async with open_runtime(bundle, settings, Metrics(bundle.manifest.steps), make_runner) as runtime:
        try:
            for file in files:
                if len(running) == runtime.engine.admission.slots:
                    await _report_first(running, report)
                running.append((file, asyncio.create_task(_classify(runtime, file, ask, report.drawn))))
            while running:
                await _report_first(running, report)
        finally:
            for _, task in running:
                task.cancel()
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)


async def _report_first(running: deque[tuple[Path, asyncio.Task[Looked | _Failure]]], report: _Report) -> None:
    file, task = running[0]
    report.add(file, await task)
    running.popleft()


async def _classify(runtime: Runtime, file: Path, ask: Parameters, drawn: bool) -> Looked | _Failure:
    reports: list[StepReport] = []
    try:
        body = Body(_chunks(file), expected_bytes=await asyncio.to_thread(_size, file))
        answer = await classify(runtime, body, ask, uuid.uuid4().hex, reports.append if drawn else None)
    except EmptyBody as problem:
        return _Failure(f"the file is empty ({problem.code})")
    except Problem as problem:
        # Over HTTP the cause of a fault is nobody's business; here it is the caller's own machine.
        why = problem.__cause__ if isinstance(problem, Internal) else None
        return _Failure(f"{why or problem.detail} ({problem.code})")
    except OSError as error:
        return _Failure(error.strerror or str(error))
    return Looked(click.format_filename(file.name), answer, reports)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(file.open, "rb") as stream:
        while chunk := await asyncio.to_thread(stream.read, _CHUNK_BYTES):
            yield chunk


def _size(file: Path) -> int | None:
    """Bytes of a file; None for a pipe, which has no size beforehand."""
    return file.stat().st_size if file.is_file() else None


def _summary(file: Path, answer: Classification) -> str:
    best, left, cost = answer.predictions[0], answer.exit, answer.compute
    name = click.format_filename(file)
    return (
        f"{name}: {best.label} {best.score:.3f} · step {left.step}/{left.steps} ({left.reason}) · "
        f"{cost.gflops:.3g} of {cost.gflops_full:.3g} GFLOPs"
    )

"""`adafocus classify`: classify files and folders with the engine of the service, without HTTP."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import click
from tqdm import tqdm

from adafocus.cli.configuration import settings_from
from adafocus.cli.contact_sheet import ContactSheet, Looked
from adafocus.cli.in_process import UNBOUNDED, Failure, Named, VideoInput, load_and_parse, run
from adafocus.cli.jsonlines import JsonLinesFile
from adafocus.cli.request_options import Asked, request_options
from adafocus.cli.videos import VideoPathOrUrl, find_videos_anywhere, shown
from adafocus.service.schemas.classify import Classification


@click.command("classify", epilog="Example: adafocus classify samples --exit balanced --out answers.jsonl")
@click.argument("videos", metavar="VIDEO...", nargs=-1, required=True, type=VideoPathOrUrl())
@request_options
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
    videos: tuple[Named, ...],
    bundle: Path | None,
    backend: str | None,
    asked: Asked,
    as_json: bool,
    out: Path | None,
    draw: Path | None,
) -> int:
    """Classify video files, the videos in folders, URLs and objects in buckets, and print each result as it is known.

    A file that cannot be classified is reported on standard error, with --json or --out also as an error row, and the
    run goes on; the exit code is then 1. In a folder, hidden files and folders are left out and links are followed.
    """
    settings = settings_from({"bundle": bundle, "backend": backend, **UNBOUNDED})
    loaded, ask = load_and_parse(settings, asked)
    found = find_videos_anywhere(videos)
    files = found.files
    with JsonLinesFile(out) if out else nullcontext() as store:
        failed_before = 0
        if store is not None:
            failed_before = sum(str(file) in store.failed for file in files)
            files = _without_rows(files, store)
        sheet = ContactSheet.at(draw, loaded.manifest, len(files)) if draw else None
        report = _Report(as_json, store, sheet, files)
        try:
            inputs = (VideoInput(str(file), file) for file in files)
            run(inputs, loaded, settings, ask, report.add, steps=sheet is not None)
        finally:
            report.close()
        report.draw()
    return 1 if report.failed or failed_before or found.unreadable else 0


def _without_rows(files: list[Named], store: JsonLinesFile) -> list[Named]:
    """The files that have no row in the output file yet; print how many have one."""
    rest = [file for file in files if str(file) not in store.keys]
    done = len(files) - len(rest)
    if done:
        failed = sum(str(file) in store.failed for file in files)
        note = f"; {failed} of them with an error" if failed else ""
        where = click.format_filename(store.path)
        click.echo(f"adafocus: skipped {done} of {len(files)} videos that are in {where} already{note}", err=True)
    return rest


class _Report:
    """Writes results to the terminal, as text or as JSON, and to the output file."""

    def __init__(
        self, as_json: bool, store: JsonLinesFile | None, sheet: ContactSheet | None, files: Sequence[Named]
    ) -> None:
        self.failed = 0
        self._as_json = as_json
        self._store = store
        self._sheet = sheet
        self._drawn: dict[Named, Looked] = {}
        self._files = files
        self._bar = tqdm(total=len(files), unit="video", disable=not sys.stderr.isatty(), leave=False, delay=1)

    def add(self, video: VideoInput, result: Looked | Failure) -> None:
        """Report one file."""
        file = video.path
        if isinstance(result, Failure):
            self.failed += 1
            row = {"file": str(file), "error": {"code": result.code, "detail": result.detail}}
            line = f"adafocus: {shown(file)}: {result.detail} ({result.code})"
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


def _summary(file: Named, answer: Classification) -> str:
    best, left, cost = answer.predictions[0], answer.exit, answer.compute
    name = shown(file)
    price = f"{cost.gflops:.3g} of {cost.gflops_full:.3g} GFLOPs"
    if answer.segments is None or answer.events is None:
        return f"{name}: {best.label} {best.score:.3f} · step {left.step}/{left.steps} ({left.reason}) · {price}"
    events = (
        f"\n  {_clock(event.start_s)} to {_clock(event.end_s)}: {event.label} {event.score:.3f}"
        for event in answer.events
    )
    return f"{name}: {len(answer.segments)} windows, {len(answer.events)} events · {price}{''.join(events)}"


def _clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{rest:04.1f}"

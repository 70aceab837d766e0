"""`adafocus batch`: classify many videos into a folder of results; an interrupted run goes on where it stopped."""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from adafocus.cli.configuration import settings_from
from adafocus.cli.in_process import UNBOUNDED, Named, load_and_parse, run
from adafocus.cli.offline.formats import FormatName, Row, open_format
from adafocus.cli.offline.inputs import Inputs, collect
from adafocus.cli.offline.manifests import DEFAULT_COLUMN
from adafocus.cli.offline.on_ray import Pool, classify_on_ray
from adafocus.cli.offline.rows import id_of, row_of
from adafocus.cli.offline.run_file import describe_run, join_run
from adafocus.cli.offline.shards import Shard
from adafocus.cli.offline.store import DEFAULT_ROWS_PER_PART, ResultStore
from adafocus.cli.offline.summary import Effort, Totals, as_text, summary
from adafocus.cli.request_options import Asked, request_options
from adafocus.cli.videos import VideoPathOrUrl

SUMMARY = "_summary"


def _shard(ctx: click.Context, param: click.Parameter, value: str | None) -> Shard:
    try:
        return Shard() if value is None else Shard.parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("batch", epilog="Example: adafocus batch clips/ more.csv --out results --exit balanced")
@click.argument("inputs", metavar="INPUT...", nargs=-1, required=True, type=VideoPathOrUrl())
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the results; an interrupted run in it is continued.",
)
@request_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "parquet"]),
    default="jsonl",
    show_default=True,
    help="Format of the results.",
)
@click.option(
    "--shard", metavar="I/N", callback=_shard, help="Classify only part I, from 0, of N equal parts of the inputs."
)
@click.option(
    "--column", default=DEFAULT_COLUMN, show_default=True, help="Column of a manifest that has the names of the videos."
)
@click.option(
    "--rows-per-part",
    type=click.IntRange(1, 10_000_000),
    default=DEFAULT_ROWS_PER_PART,
    show_default=True,
    metavar="N",
    help="Rows of a file of results.",
)
@click.option(
    "--ray", "address", metavar="ADDRESS", help="Run on this Ray cluster, such as auto; it needs the extra ray."
)
@click.option(
    "--actor-cores",
    type=click.FloatRange(min=0, min_open=True),
    default=Pool.cores,
    show_default=True,
    help="With --ray: cores of each engine.",
)
@click.option(
    "--actor-gpus",
    type=click.FloatRange(min=0),
    default=Pool.gpus,
    show_default=True,
    help="With --ray: GPUs of each engine; a fraction shares one.",
)
@click.option("--retry-errors", is_flag=True, help="Classify videos again whose row is an error.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def command(
    inputs: tuple[Named, ...],
    out: Path,
    bundle: Path | None,
    backend: str | None,
    asked: Asked,
    form: FormatName,
    shard: Shard,
    column: str,
    rows_per_part: int,
    address: str | None,
    actor_cores: float,
    actor_gpus: float,
    retry_errors: bool,
    as_json: bool,
) -> int:
    """Classify many videos and write exactly one row for each to a folder.

    An INPUT is a video, a folder of videos, or a manifest: a CSV, JSON Lines or Parquet file that names a video in each
    row. A video that cannot be classified gets a row with an error, and the run goes on. The exit code is 0 if every
    input has a row and at least one is an answer.
    """
    settings = settings_from({"bundle": bundle, "backend": backend, **UNBOUNDED})
    loaded, ask = load_and_parse(settings, asked)
    results = open_format(form)
    found = collect(inputs, column)
    mine = [video for video in found.videos if shard.has(video.name)]
    join_run(out, describe_run(loaded, ask, shard, form))
    totals = Totals()
    drop = _is_error if retry_errors else _is_none
    with ResultStore(out, shard, results, rows_per_part=rows_per_part, seen=totals.add, drop=drop) as store:
        waiting = [video for video in mine if video.name not in store.names]
        _announce(found, len(mine), len(waiting), shard)
        report = out / f"{SUMMARY}{shard.suffix}.json"
        report.unlink(missing_ok=True)  # it says that the run is complete
        before, cpu_before = time.monotonic(), _cpu_seconds()
        with _Progress(store, totals, len(mine), len(mine) - len(waiting)) as progress:
            if waiting and address:
                for row in classify_on_ray(waiting, settings, ask, Pool(actor_cores, actor_gpus), address):
                    progress.add(row)
            elif waiting:
                add = progress.add
                run(waiting, loaded, settings, ask, lambda video, got: add(row_of(video, got)), id_of=id_of)
        effort = Effort(len(waiting), time.monotonic() - before, _cpu_seconds() - cpu_before)
    told = summary(totals, effort)
    _write_summary(report, told)
    click.echo(json.dumps(told) if as_json else as_text(told, loaded.manifest.steps))
    return 1 if found.unreadable or (mine and not totals.answered) else 0


class _Progress:
    """Writes each result to the store and shows how far the run is."""

    def __init__(self, store: ResultStore, totals: Totals, videos: int, done: int) -> None:
        self._store = store
        self._totals = totals
        hidden = not sys.stderr.isatty()
        self._bar = tqdm(total=videos, initial=done, unit="video", disable=hidden, leave=False, delay=1)

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, row: Row) -> None:
        """Write the row of a video."""
        self._store.append(row)
        self._bar.set_postfix_str(self._totals.so_far(), refresh=False)
        self._bar.update()


def _announce(found: Inputs, mine: int, waiting: int, shard: Shard) -> None:
    """Say what is not done, and why."""
    if found.repeated:
        click.echo(f"adafocus: {found.repeated} names are repeated; each video is classified once", err=True)
    if shard.count > 1:
        click.echo(
            f"adafocus: {mine} of {len(found.videos)} videos belong to shard {shard.index}/{shard.count}", err=True
        )
    if waiting < mine:
        click.echo(f"adafocus: {mine - waiting} of {mine} videos have a row already", err=True)


def _write_summary(path: Path, told: dict[str, Any]) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    new.replace(path)


def _cpu_seconds() -> float:
    """Processor time of this process, and of the decoders that have ended."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def _is_error(row: Row) -> bool:
    return "error" in row


def _is_none(row: Row) -> bool:
    return False

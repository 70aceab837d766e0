"""The tables of docs/batch.md and docs/scale.md, from the newest results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benchmarks.capacity_plan import RATES, Design, designs, need, sizes
from benchmarks.machine import newest_results

_PER_HOUR_MS = 3_600_000.0
_MILLION = 1e6


def killed_batch() -> str:
    """How often the command was killed, and which rows were lost or there twice."""
    columns = ("inputs", "kills", "rows", "error_rows", "rows_lost", "rows_twice")
    head = ("where", "results", "inputs", "kills", "rows", "of them errors", "lost", "twice")
    places = {"here": "this machine", "ray": "a Ray cluster"}
    rows = newest_results("killed-batch")
    return _table(
        head, ([places[row.get("on", "here")], f"`{row['format']}`", *(row[name] for name in columns)] for row in rows)
    )


def batch_cost() -> str:
    """Processor time per clip, and the size of a row."""
    head = ("command", "processor time a clip, ms", "of `classify`", "bytes a row")
    return _table(
        head,
        (
            [
                f"`adafocus {row['command']}`",
                row["cpu_ms_per_clip"],
                f"{float(row['ratio']):.2f}×",
                row["bytes_per_row"],
            ]
            for row in newest_results("batch-cost")
        ),
    )


def per_video() -> str:
    """What one video costs, and a million."""
    head = (
        "design",
        "service, ms",
        "decoding, ms",
        "graphs, ms",
        "GPU, ms",
        "core hours a million",
        "GPU hours a million",
    )
    return _table(head, (_costs(design) for pair in designs().values() for design in pair))


def _costs(design: Design) -> list[str]:
    gpu_hours = design.gpu_ms * _MILLION / _PER_HOUR_MS
    return [
        design.name,
        f"{design.service_ms:.1f}",
        f"{design.decode_ms:.1f}",
        _shown(design.graphs_ms, ".1f"),
        _shown(design.gpu_ms, ".2f"),
        f"{design.core_ms * _MILLION / _PER_HOUR_MS:.1f}",
        _shown(gpu_hours, ".2f"),
    ]


def at_rates() -> str:
    """What each rate needs."""
    clip_bytes, row_bytes = sizes()
    head = ("videos/s", "design", "service processes", "cores", "GPUs")
    lines = []
    for rate in RATES:
        for pair in designs().values():
            for design in pair:
                wanted = need(design, rate, clip_bytes, row_bytes)
                counts = [f"{wanted.processes:,}", f"{wanted.cores:,}", f"{wanted.gpus:,}" if wanted.gpus else "–"]
                lines.append([f"{rate:,}", design.name, *counts])
    return _table(head, lines)


def traffic() -> str:
    """Network and storage, which do not depend on the design."""
    clip_bytes, row_bytes = sizes()
    design = next(iter(designs().values()))[0]
    head = ("videos/s", "videos a day", "network, Gbit/s", "the videos, TB a day", "rows in Parquet, GB a day")
    lines = []
    for rate in RATES:
        wanted = need(design, rate, clip_bytes, row_bytes)
        amounts = (wanted.gigabits_per_s, wanted.videos_tb_per_day, wanted.rows_gb_per_day)
        lines.append([f"{rate:,}", f"{rate * 86_400:,}", *(f"{amount:.3g}" for amount in amounts)])
    return _table(head, lines)


def _shown(amount: float, form: str) -> str:
    return format(amount, form) if amount else "–"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


PAGES: dict[Path, dict[str, Callable[[], str]]] = {
    Path("docs/batch.md"): {"killed_batch": killed_batch, "batch_cost": batch_cost},
    Path("docs/scale.md"): {"per_video": per_video, "at_rates": at_rates, "traffic": traffic},
}

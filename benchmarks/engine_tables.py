"""The tables of docs/engine.md and of the decision on look-ahead, from the newest results."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from benchmarks.machine import newest_results

Row = Mapping[str, str]


def refill_rows(rows: Iterable[Row]) -> str:
    """Videos per second against static batching."""
    return _table(
        ("batch", "mean exit step", "static, videos/s", "refilled, videos/s", "ratio", "time outside the graphs"),
        (
            (
                row["batch"],
                f"{row['mean_exit_step']} of {row['steps']}",
                row["static_videos_per_s"],
                row["refill_videos_per_s"],
                f"{row['ratio']}×",
                f"{float(row['share_outside_graphs']):.1%}",
            )
            for row in rows
        ),
    )


def refill_all() -> str:
    """Every batch size and mean."""
    return refill_rows(newest_results("refill"))


def refill() -> str:
    """README's one row: batch 8, mean exit nearest to 6 of 16."""
    rows = [row for row in newest_results("refill") if row["batch"] == "8"]
    return refill_rows([min(rows, key=lambda row: abs(float(row["mean_exit_step"]) / float(row["steps"]) - 6 / 16))])


def refill_cpu() -> str:
    """The same in processor time of one thread."""
    return _table(
        ("batch", "mean exit step", "static, ms a video", "refilled, ms a video", "ratio", "outside the graphs"),
        (
            (
                row["batch"],
                f"{row['mean_exit_step']} of {row['steps']}",
                row["static_cpu_ms_per_video"],
                row["refill_cpu_ms_per_video"],
                f"{row['cpu_ratio']}×",
                f"{float(row['cpu_share_outside_graphs']):.1%}",
            )
            for row in newest_results("refill-cpu")
        ),
    )


def overhead() -> str:
    """What the service adds."""
    return _table(
        ("`exit`", "in one process, ms", "served, ms", "added, ms", "added to its own times, ms"),
        (
            (
                f"`{row['exit']}`",
                row["alone_ms"],
                row["served_ms"],
                row["added_ms"],
                row.get("added_to_reported_ms", "–"),
            )
            for row in newest_results("overhead")
        ),
    )


def first_step() -> str:
    """First event against the whole answer."""
    return _table(
        ("model", "clip", "first step, ms", "whole answer, ms", "share"),
        (
            (row["model"], row["clip"], row["first_step_ms"], row["full_answer_ms"], row["first_step_share"])
            for row in newest_results("first_step")
        ),
    )


def plans() -> str:
    """Frames decoded and time, per clip."""
    return _table(
        (
            "clip",
            "frames",
            "scan, ms",
            "first step, ms (frames)",
            "… decoding all",
            "16 steps, ms (frames)",
            "… decoding all",
        ),
        (
            (
                row["clip"],
                row["frames"],
                row["scan_ms"],
                *(
                    f"{row[f'{what}_ms{way}']} ({row[f'{what}_frames{way}']})"
                    for what in ("first_step", "all_steps")
                    for way in ("", "_decoding_all")
                ),
            )
            for row in newest_results("plans")
        ),
    )


def lookahead_full() -> str:
    """What looking ahead saves where nobody leaves."""
    return _table(
        ("model", "runtime", "steps at once", "ms per video", "of one by one", "× torch"),
        (
            (
                row["model"],
                f"{row['backend']} {row['precision']}",
                row["ahead"],
                row["ms_per_video"],
                row["of_one_by_one"],
                row["times_torch"] or "–",
            )
            for row in newest_results("lookahead")
            if row["exit"] == "full"
        ),
    )


def lookahead_exit() -> str:
    """What looking beyond the exit would save, and cost."""
    return _table(
        ("model", "runtime", "exit steps", "steps at once", "steps computed", "ms per video", "of one by one"),
        (
            (
                row["model"],
                f"{row['backend']} {row['precision']}",
                row["exit"],
                row["ahead"],
                row["frames_computed"],
                row["ms_per_video"],
                row["of_one_by_one"],
            )
            for row in newest_results("lookahead")
            if row["exit"] != "full" and row["backend"] == "onnxruntime-cpu" and row["precision"] == "fp32"
        ),
    )


PAGES = {
    Path("docs/engine.md"): {
        "refill_all": refill_all,
        "refill_cpu": refill_cpu,
        "overhead": overhead,
        "lookahead_full": lookahead_full,
        "first_step": first_step,
        "plans": plans,
    },
    Path("docs/decisions/0007-look-ahead.md"): {"lookahead_exit": lookahead_exit},
}


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = tuple(head)
    lines = [columns, ("---",) * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""The tables of docs/engine.md and of the decision on look-ahead, from the newest results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from benchmarks.certified_tables import certified_points, certified_sets, quality, snapping, visit_order
from benchmarks.machine import newest_results

Row = Mapping[str, str]
Cell = str | Callable[[Row], str]
"""What a column shows of a row: one of its results as it is, or what is made of several."""


def refill_rows(rows: Iterable[Row]) -> str:
    """Videos per second against static batching."""
    return _table(
        rows,
        ("batch", "batch"),
        ("mean exit step", _exit_step),
        ("static, videos/s", "static_videos_per_s"),
        ("refilled, videos/s", "refill_videos_per_s"),
        ("ratio", lambda row: f"{row['ratio']}×"),
        ("time outside the graphs", _percent("share_outside_graphs")),
    )


def refill_all() -> str:
    """Every batch size and mean."""
    return refill_rows(newest_results("refill"))


def refill() -> str:
    """The row in README: batch 8, mean exit nearest to 6 of 16."""
    rows = [row for row in newest_results("refill") if row["batch"] == "8"]
    return refill_rows([min(rows, key=lambda row: abs(float(row["mean_exit_step"]) / float(row["steps"]) - 6 / 16))])


def refill_cpu() -> str:
    """The same in processor time of one thread."""
    return _table(
        newest_results("refill-cpu"),
        ("batch", "batch"),
        ("mean exit step", _exit_step),
        ("static, ms a video", "static_cpu_ms_per_video"),
        ("refilled, ms a video", "refill_cpu_ms_per_video"),
        ("ratio", lambda row: f"{row['cpu_ratio']}×"),
        ("outside the graphs", _percent("cpu_share_outside_graphs")),
    )


def overhead() -> str:
    """Time that the service adds to a request."""
    return _table(
        newest_results("overhead"),
        ("`exit`", _exit),
        ("in one process, ms", "alone_ms"),
        ("served, ms", "served_ms"),
        ("added, ms", "added_ms"),
        ("added to its own times, ms", "added_to_reported_ms"),
    )


def throughput() -> str:
    """The shipped bundle's service on a processor, in a closed loop."""
    return _table(
        newest_results("throughput", "tank-state-fp32_onnxruntime-cpu"),
        ("`exit`", _exit),
        ("clients", "clients"),
        ("answers/s", "answers_per_s"),
        ("p50, ms", "p50_ms"),
        ("p95, ms", "p95_ms"),
        ("p99, ms", "p99_ms"),
        ("of the full price", _percent("share_of_full")),
    )


def load_generator() -> str:
    """The load generator's own processor time."""
    return _table(
        newest_results("load-generator"),
        ("clients", "clients"),
        ("generator", "generator"),
        ("processor time per request, ms", "cpu_ms_per_request"),
        ("of it in the system, ms", "system_ms_per_request"),
        ("requests/s", "requests_per_s"),
    )


def http_cost() -> str:
    """Processor time that the service adds to a bare route and to its model."""
    return _table(
        newest_results("http-cost", "sky"),
        ("`exit`", _exit),
        ("version", "version"),
        ("bare route, ms", "bare_ms"),
        ("service beyond the graphs, ms", "service_ms"),
        ("of *before*", lambda row: f"{100 * float(row['of_before']):.0f}%"),
        ("× bare route", lambda row: f"{row['ratio']}×"),
        ("bare route beside the graphs, ms", "bare_beside_ms"),
        ("× that", lambda row: f"{row['ratio_beside']}×"),
        ("graphs, ms", "graphs_ms"),
    )


def capacity() -> str:
    """What the service carries, before and after, and with several fronts."""
    return _table(
        newest_results("capacity"),
        ("`exit`", _exit),
        ("version", "version"),
        ("answers/s, 16 clients", "answers_per_s_16"),
        ("… 256 clients", "answers_per_s_256"),
        ("not answered", "not_answered"),
        ("at 80 %: p50, ms", "p50_80_ms"),
        ("p99, ms", "p99_80_ms"),
        ("p99 / p50", "p99_over_p50"),
    )


def ideal_queue() -> str:
    """How far apart p99 and p50 are by chance alone."""
    return _table(
        newest_results("ideal-queue"),
        ("cores", "servers"),
        ("load", _percent("share")),
        ("p50, service times", "p50"),
        ("p99, service times", "p99"),
        ("p99 / p50, long run", "p99_over_p50"),
        ("… run of 600", "of_a_run"),
        ("… of 80 % of such runs", lambda row: f"{row['from']} to {row['to']}"),
    )


def kills() -> str:
    """What a killed process costs."""
    return _table(
        newest_results("kills"),
        ("killed", "killed"),
        ("answers/s before", "answers_per_s_before"),
        ("lost", "lost"),
        ("as", lambda row: row["lost_as"] or "–"),
        ("lowest answers/s", "lowest_answers_per_s"),
        ("back after, s", lambda row: row["back_after_s"] or "–"),
    )


def same_answers() -> str:
    """Answers before and after the engine's core, clip by clip."""
    return _table(
        newest_results("same-answers"),
        ("compared with", lambda row: f"`{row['before']}`"),
        ("bundle", "bundle"),
        ("backend", "backend"),
        ("`exit`", _exit),
        ("clips answered", "answered_after"),
        ("identical answers", "identical"),
        ("other", "other_answer"),
        ("largest difference of a number", "largest_difference"),
    )


def decoder_cost() -> str:
    """A worker's processor time, compared with plain PyAV's."""
    return _table(
        newest_results("decoder-cost"),
        ("clips", "clips"),
        ("`exit`", _exit),
        ("frames", "frames"),
        ("plain PyAV, ms", "plain_ms"),
        ("worker, ms", "worker_ms"),
        ("ratio", lambda row: f"{row['ratio']}×"),
    )


def first_step() -> str:
    """First event against the whole answer."""
    return _table(
        newest_results("first_step"),
        ("model", "model"),
        ("clip", "clip"),
        ("first step, ms", "first_step_ms"),
        ("whole answer, ms", "full_answer_ms"),
        ("share", "first_step_share"),
    )


def plans() -> str:
    """Frames decoded and time, per clip."""
    return _table(
        newest_results("plans"),
        ("clip", "clip"),
        ("frames", "frames"),
        ("scan, ms", "scan_ms"),
        ("first step, ms (frames)", _ms_and_frames("first_step")),
        ("… decoding all", _ms_and_frames("first_step", "_decoding_all")),
        ("16 steps, ms (frames)", _ms_and_frames("all_steps")),
        ("… decoding all", _ms_and_frames("all_steps", "_decoding_all")),
        ("… moved to key frames", _ms_and_frames("all_steps", "_snapped")),
    )


def lookahead_full() -> str:
    """Time that looking ahead saves without exit."""
    return _table(
        [row for row in newest_results("lookahead") if row["exit"] == "full"],
        ("model", "model"),
        ("runtime", _runtime),
        ("steps at once", "ahead"),
        ("ms per video", "ms_per_video"),
        ("of one by one", "of_one_by_one"),
        ("× torch", lambda row: row["times_torch"] or "–"),
    )


def lookahead_exit() -> str:
    """Time that looking ahead beyond the exit would save, and its cost."""
    kept = ("onnxruntime-cpu", "fp32")
    return _table(
        [
            row
            for row in newest_results("lookahead")
            if row["exit"] != "full" and (row["backend"], row["precision"]) == kept
        ],
        ("model", "model"),
        ("runtime", _runtime),
        ("exit steps", "exit"),
        ("steps at once", "ahead"),
        ("steps computed", "frames_computed"),
        ("ms per video", "ms_per_video"),
        ("of one by one", "of_one_by_one"),
    )


def simulated_device() -> str:
    """The engine's share of a simulated device's rate; frames were copied by the processor, and are fetched now."""
    variants = {"thread-copying": "thread, frames copied", "thread": "thread", "process": "process"}
    rows = [
        {**row, "core": name}
        for variant, name in variants.items()
        for row in newest_results("simulated_device", variant)
    ]
    return _table(
        sorted(rows, key=lambda row: (row["device"], int(row["batch"]))),
        ("device", "device"),
        ("batch", "batch"),
        ("rows in flight", "rows"),
        ("core", "core"),
        ("frames/s of the device", "device_frames_per_s"),
        ("… of the engine", "engine_frames_per_s"),
        ("share", _percent("share")),
        ("processor time, µs a frame", "cpu_us_per_frame"),
    )


PAGES = {
    Path("docs/operating-points.md"): {
        "certified_points": certified_points,
        "certified_sets": certified_sets,
        "snapping": snapping,
        "visit_order": visit_order,
        "quality": quality,
    },
    Path("docs/engine.md"): {
        "refill_all": refill_all,
        "refill_cpu": refill_cpu,
        "overhead": overhead,
        "throughput": throughput,
        "capacity": capacity,
        "ideal_queue": ideal_queue,
        "kills": kills,
        "http_cost": http_cost,
        "load_generator": load_generator,
        "decoder_cost": decoder_cost,
        "same_answers": same_answers,
        "simulated_device": simulated_device,
        "lookahead_full": lookahead_full,
        "first_step": first_step,
        "plans": plans,
    },
    Path("docs/decisions/0007-look-ahead.md"): {"lookahead_exit": lookahead_exit},
}


def _exit(row: Row) -> str:
    return f"`{row['exit']}`"


def _exit_step(row: Row) -> str:
    return f"{row['mean_exit_step']} of {row['steps']}"


def _runtime(row: Row) -> str:
    return f"{row['backend']} {row['precision']}"


def _percent(name: str) -> Cell:
    return lambda row: f"{float(row[name]):.1%}"


def _ms_and_frames(what: str, way: str = "") -> Cell:
    return lambda row: f"{row[f'{what}_ms{way}']} ({row[f'{what}_frames{way}']})"


def _table(rows: Iterable[Row], *columns: tuple[str, Cell]) -> str:
    lines = [[name for name, _ in columns], ["---"] * len(columns)]
    lines += [[row[cell] if isinstance(cell, str) else cell(row) for _, cell in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

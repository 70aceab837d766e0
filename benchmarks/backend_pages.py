"""Write the tables and the picture of docs/backends.md from the newest results.

python -m benchmarks.backend_pages [--check]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.machine import newest_of_each_machine, newest_results
from benchmarks.readme import filled_with

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "backends.md"
PICTURE = ROOT / "docs" / "pictures" / "backends.png"

Row = Mapping[str, str]

PRECISION_MODELS = {"final0": "shipped", "fold0": "of a fold"}
"""Descriptions of the weights, by the name of the run that made them."""

COLOURS = {1: "#9db8d9", 4: "#4f7fb5", 8: "#1f4e79"}


def speed(name: str) -> str:
    """A line for each backend, precision and batch size."""
    rows = newest_results("backends", name)
    with_torch = any(row["times_torch"] for row in rows)
    columns = ["backend", "precision", "batch", "glance, ms", "focus, ms", "videos/s, `full`", "videos/s, `balanced`"]
    columns += ["× torch"] if with_torch else []
    columns += ["of the peak", "memory, MB", "start, s"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    variants = list(dict.fromkeys((row["backend"], row["precision"]) for row in rows))
    for row in sorted(rows, key=lambda row: variants.index((row["backend"], row["precision"]))):
        cells = ["torch, plain" if row["backend"] == "torch" else f"`{row['backend']}`", row["precision"], row["batch"]]
        cells += [_number(row[key], 2) for key in ("glance_ms", "focus_ms", "videos_per_s", "videos_per_s_balanced")]
        cells += [f"{float(row['times_torch']):.2f}"] if with_torch else []
        cells += [
            f"{float(row['share_of_peak']):.0%}",
            row["rss_mb"],
            "" if row["backend"] == "torch" else _number(row["startup_s"], 1),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def conditions(name: str) -> str:
    """The machines and versions that were measured."""
    rows = newest_results("backends", name)
    row = rows[0]
    peaks = {row["precision"]: float(row["peak_gflops_per_s"]) for row in rows}
    values = ", ".join(f"{peak:.0f} in {precision}" for precision, peak in peaks.items())
    others = max(float(row["others_share"]) for row in rows)
    return (
        f"{row['processor']}, {row['threads']} threads, medians of {row['rounds']} rounds in which all variants took "
        f"turns. Other processes used at most {others:.0%} of the processors. The largest product reached {values} "
        f"GFLOP/s, with two operations per multiply-add. `balanced` exits at step {_mean_step(rows)} on average."
    )


def int8_cures() -> str:
    """Errors of int8 without 8-bit dot products, and the cost of each cure."""
    lines = [
        "| graph | runtime | variant | error from its definition | error from fp32 | ms per frame, batch 1 | batch 8 |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['graph']} | {row['runtime']} | {row['variant']} | {float(row['rms_from_definition']):.3f} "
        f"| {float(row['rms_from_fp32']):.3f} | {row['cpu_ms_batch_1']} | {row['cpu_ms_batch_8']} |"
        for row in newest_results("int8_cures")
    ]
    return "\n".join(lines)


def draw(rows: Sequence[Row]) -> None:
    """Videos per second of each variant and batch size, and torch's as a line."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    variants = list(dict.fromkeys((row["backend"], row["precision"]) for row in rows if row["backend"] != "torch"))
    batches = sorted({int(row["batch"]) for row in rows})
    figure, axes = pyplot.subplots(figsize=(8.5, 3.8), layout="constrained")
    height = 0.8 / len(batches)
    for place, batch in enumerate(batches):
        for level, variant in enumerate(variants):
            found = [row for row in rows if (row["backend"], row["precision"], int(row["batch"])) == (*variant, batch)]
            rate = float(found[0]["videos_per_s"])
            y = level + (place - (len(batches) - 1) / 2) * height
            label = f"batch {batch}" if level == 0 else None
            axes.barh(y, rate, height, color=COLOURS.get(batch, "#777777"), label=label)
            axes.text(rate, y, f" {rate:.1f}", va="center", fontsize=8)
    torch = max(float(row["videos_per_s"]) for row in rows if row["backend"] == "torch")
    axes.axvline(torch, color="#b03a2e", linewidth=1.2, label="torch's forward, at its best")
    axes.set_yticks(range(len(variants)), [f"{backend} {precision}" for backend, precision in variants])
    axes.invert_yaxis()
    axes.set_xlabel(f"videos per second, all 16 frames, {rows[0]['threads']} threads of {rows[0]['processor']}")
    axes.set_title("actnet_mbv2_p128", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, dpi=110, metadata={"Software": None})


def _number(text: str, digits: int) -> str:
    return f"{float(text):.{digits}f}" if text else ""


def _mean_step(rows: Sequence[Row]) -> str:
    return next(row["balanced_mean_step"] for row in rows if row["balanced_mean_step"])


def precisions() -> str:
    """Accuracy of each backend and precision on labelled clips, for two models of the shipped recipe."""
    names = {name: newest_results("precisions", name) for name in PRECISION_MODELS}
    points = list(dict.fromkeys(row["point"] for rows in names.values() for row in rows))
    columns = ["weights", "backend", "precision", "fp32's answer", "error of the logits, rms"]
    columns += [f"macro-F1, `{point}`" for point in points]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for name, rows in names.items():
        for variant in dict.fromkeys((row["backend"], row["precision"]) for row in rows):
            found = [row for row in rows if (row["backend"], row["precision"]) == variant]
            agreed = round(float(found[0]["agreement_full"]) * int(found[0]["clips"]))
            cells = [PRECISION_MODELS[name], f"`{variant[0]}`", variant[1], f"{agreed} of {found[0]['clips']}"]
            cells += [found[0]["logits_rms_error"], *(row["macro_f1"] for row in found)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def services() -> str:
    """Start and memory of one service, and of two of the same bundle."""
    columns = ["bundle", "backend", "precision", "`model_cache`", "ready after, s"]
    columns += ["first time, s", "memory of one, MB", "of two together, MB"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in newest_results("services"):
        cells = [row["bundle"], f"`{row['backend']}`", row["precision"]]
        cells += [row["model_cache"], row["seconds_to_ready"], row["first_start_s"], row["one_mb"], row["two_mb"]]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def device_graphs() -> str:
    """Each graph on each GPU that was measured, in the settings that serve."""
    columns = ["GPU", "precision", "batch", "glance, ms", "focus, ms", "frames/s", "apart from fp32 on the processor"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in newest_of_each_machine("device-graphs"):
        if not row["note"]:
            cells = [row["device"], row["precision"], row["batch"], row["glance_ms"], row["focus_ms"]]
            lines.append("| " + " | ".join([*cells, row["frames_per_s"], row["logits_rms_apart"]]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Write the page and the picture, or report whether the page is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is out of date")
    check = parser.parse_args().check
    sections = {
        "table:actnet": speed("actnet"),
        "table:tank-state": speed("tank-state"),
        "conditions:actnet": conditions("actnet"),
        "conditions:tank-state": conditions("tank-state"),
        "table:services": services(),
        "table:precisions": precisions(),
        "table:device-graphs": device_graphs(),
        "table:int8-cures": int8_cures(),
    }
    now = PAGE.read_text(encoding="utf-8")
    new = filled_with(now, sections)
    if check and new != now:
        raise SystemExit(f"{PAGE.name} is out of date: run python -m benchmarks.backend_pages")
    if not check:
        PAGE.write_text(new, encoding="utf-8")
        draw(newest_results("backends", "actnet"))


if __name__ == "__main__":
    main()

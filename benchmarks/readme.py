"""Writes the tables of README and docs from the newest results, and README's example answer from the engine.

python -m benchmarks.readme [--check]
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks import scale_tables, training_tables
from benchmarks.engine_tables import PAGES, refill
from benchmarks.evidence.sky_tables import patch_table
from benchmarks.machine import newest_results

ROOT = Path(__file__).resolve().parent.parent


def footprint() -> str:
    """Size, start and memory."""
    row = newest_results("footprint")[0]
    return "\n".join(
        [
            "| | measured |",
            "|---|---|",
            f"| installed size, all that `make serve` brings | {float(row['install_mb']):.0f} MB |",
            f"| … once it has run and made its bytecode | {float(row['after_runs_mb']):.0f} MB |",
            f"| from starting the process to ready | {float(row['seconds_to_ready']):.1f} s |",
            f"| resident memory of the service after a request | {float(row['rss_service_mb']):.0f} MB |",
            f"| … and of its {row['decode_workers']} decode workers together | {float(row['rss_workers_mb']):.0f} MB |",
        ]
    )


CLAIMS = {
    "learned": "AdaFocusV2: glance, policy, focus on the chosen patch",
    "centre": "the same, with the patch always in the middle",
    "none": "the glance network alone, on a larger frame",
    "full": "the focus network on whole frames, uniformly sampled",
}


def claims() -> str:
    """Accuracy of the method and of simpler models, by data set; mean over seeds, with MFLOPs per video."""
    rows = newest_results("evidence")
    sets = ("hatching", "tank_state")
    lines = ["| model | " + " | ".join(f"`{name}`" for name in sets) + " |", "|---|---|---|"]
    for arm, words in CLAIMS.items():
        cells = []
        for name in sets:
            own = [row for row in rows if row["data"] == name and row["arm"] == arm]
            accuracy = statistics.mean(float(row["accuracy"]) for row in own)
            cells.append(f"{accuracy:.3f} at {float(own[0]['mflops_per_video']):.0f} MFLOPs")
        lines.append(f"| {words} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def sky() -> str:
    """Accuracy of the shipped model on unseen backgrounds, by place of the patch."""
    return patch_table("evidence-sky")


TABLES = {"claims": claims, "sky": sky, "footprint": footprint, "refill": refill}


def answer() -> str:
    """The answer to README's curl command from the same engine, without ids and times."""
    program = Path(sys.executable).with_name("adafocus")
    clip = ["samples/airplane.mp4", "--bundle", "bundles/sky", "--backend", "onnxruntime-cpu", "--top-k", "2", "--json"]
    text = subprocess.run([program, "classify", *clip], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    whole = json.loads(text)
    del whole["compute"]["decode_cpu_ms"]
    shown = {key: whole[key] for key in ("model", "predictions", "exit", "compute", "video")}
    rounded = json.loads(json.dumps(shown), parse_float=lambda number: round(float(number), 4))
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in rounded.items()]
    return "```json\n{\n" + ",\n".join(lines) + "\n}\n```"


def filled_with(text: str, sections: Mapping[str, str]) -> str:
    """A page with the named sections replaced."""
    for name, content in sections.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text = pattern.sub(lambda found, content=content: f"{found[1]}{content}\n{found[2]}", text)
    return text


def main() -> None:
    """Write the pages, or report which is out of date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is out of date")
    check = parser.parse_args().check
    own = {Path("README.md"): TABLES, Path("docs/evidence.md"): {"sky": sky}}
    for page, tables in {**own, **PAGES, **scale_tables.PAGES, **training_tables.PAGES}.items():
        makers: dict[str, Callable[[], str]] = dict(tables)
        sections = {f"table:{name}": make() for name, make in makers.items()}
        if page.name == "README.md":
            sections["answer"] = answer()
        now = (ROOT / page).read_text(encoding="utf-8")
        new = filled_with(now, sections)
        if check and new != now:
            raise SystemExit(f"{page} is out of date: run python -m benchmarks.readme")
        if not check:
            (ROOT / page).write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main()

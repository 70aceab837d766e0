"""The tables of certified operating points, and of quality before refusal, for the docs."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.machine import newest_results

Row = Mapping[str, str]


def certified_points() -> str:
    """Cost of a promise of 1 %, beside the rule that changes no answer, by population and number of clips."""
    found: dict[tuple[str, str], dict[str, Row]] = {}
    for row in newest_results("certified-points"):
        if row["point"] == "accurate":
            found.setdefault((row["population"], row["clips"]), {})[row["way"]] = row
    lines = [
        "| population | clips | `accurate` by rule: of full compute · above 1 % "
        "| certified at 1 %: how often · of full compute · promises broken |",
        "|---|---|---|---|",
    ]
    for (population, clips), ways in found.items():
        rules, tested = ways["rules"], ways["certified"]
        lines.append(
            f"| {population.replace('_', ' ')} | {clips} | {float(rules['share_of_full_median']):.2f} "
            f"· {rules['above_epsilon']} of {rules['calibrations']} "
            f"| {tested['certified']} of {tested['calibrations']} "
            f"· {float(tested['share_of_full_median']):.2f} · {tested['promises_broken']} |"
        )
    return "\n".join(lines)


def quality() -> str:
    """Goodput under overload, with refusals alone and with cheaper operating points first."""
    found: dict[str, dict[str, Row]] = {}
    for row in newest_results("quality"):
        found.setdefault(row["load"], {})[row["way"]] = row
    lines = [
        "| load, of what it answers at `full` | refusing alone: answers within 1 s, per second · answered "
        "| cheaper points first |",
        "|---|---|---|",
    ]
    for load, ways in found.items():
        cells = (
            f"{float(row['goodput_per_s']):.1f} · {float(row['answered_share']):.0%}"
            for row in (ways["refusing alone"], ways["cheaper points first"])
        )
        lines.append(f"| {load} × | {' | '.join(cells)} |")
    return "\n".join(lines)

"""The tables of docs/operating-points.md: certified points, orders of visits, and quality before refusal."""

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


def certified_sets() -> str:
    """Certified points of real models, beside those chosen by rules: cost, and risk on unseen clips."""
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in newest_results("certified-sets"):
        found.setdefault((row["data"], row["clips"], row["point"]), {})[row["way"]] = row
    lines = [
        "| clips of | to calibrate · independent ones tested | point, ε | by rule: of full compute · changed answers, "
        "unseen clips · above ε | certified: how often · of full compute · changed answers · promises broken |",
        "|---|---|---|---|---|",
    ]
    for (data, clips, point), ways in found.items():
        tested, rules = ways["certified"], ways.get("rules")
        by_rule = "–"
        if rules is not None:
            by_rule = f"{_cost_and_risk(rules)} · {rules['above_epsilon']} of {rules['calibrations']}"
        certified = f"never; at best {float(tested['smallest_epsilon']):.1%}"
        if int(tested["certified"]):
            often = f"{tested['certified']} of {tested['calibrations']}"
            certified = f"{often} · {_cost_and_risk(tested)} · {tested['promises_broken']}"
        lines.append(
            f"| {data} | {clips} · {tested['tested']} | `{point}`, {float(tested['epsilon']):.0%} "
            f"| {by_rule} | {certified} |"
        )
    return "\n".join(lines)


def _cost_and_risk(row: Row) -> str:
    return f"{float(row['share_of_full_median']):.2f} · {float(row['changed_mean']):.1%}"


def visit_order() -> str:
    """Decoding and accuracy at ``balanced`` in other orders of visits."""
    lines = [
        "| clips | order of visits | packets, expected | processor ms | accuracy at `balanced` |",
        "|---|---|---|---|---|",
    ]
    for row in newest_results("visit-order"):
        accuracy = f"{float(row['accuracy_balanced']):.3f}" if row["accuracy_balanced"] else "–"
        lines.append(
            f"| {row['clips']} | {row['order']} | {float(row['expected_packets']):.0f} | {float(row['cpu_ms']):.1f} "
            f"| {accuracy} |"
        )
    return "\n".join(lines)


def snapping() -> str:
    """Right answers on frames as sampled and on snapped ones, by operating point."""
    lines = [
        "| point | right, as sampled | right, snapped | 95 % of the difference | same answer | steps |",
        "|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| `{row['point']}` | {row['right_plain']} | {row['right_snapped']} "
        f"| {float(row['gain_low']):+.1%} to {float(row['gain_high']):+.1%} | {float(row['same_answer']):.0%} "
        f"| {float(row['mean_steps_plain']):.1f} · {float(row['mean_steps_snapped']):.1f} |"
        for row in newest_results("snapping")
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

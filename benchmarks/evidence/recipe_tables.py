"""The tables of docs/evidence.md beside those of the studies: seeds, cameras, other configurations, other patches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.machine import newest_results


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Mean and, of several, the sample's deviation."""
    mean = f"{np.mean(values):.{digits}f}"
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else mean


def column(rows: Sequence[dict[str, str]], name: str) -> str:
    """Mean and deviation of a column."""
    return spread([float(row[name]) for row in rows])


def shipped_table() -> str:
    """The shipped recipe over its seeds."""
    rows = newest_results("evidence-seeds")
    lines = ["| `exit` | accuracy by seed | mean | macro-F1, mean | of full compute, mean |", "|---|---|---|---|---|"]
    for point in dict.fromkeys(row["point"] for row in rows):
        own = [row for row in rows if row["point"] == point]
        each = ", ".join(f"{float(row['accuracy']):.3f}" for row in own)
        share = np.mean([float(row["share_of_full"]) for row in own])
        lines.append(f"| `{point}` | {each} | {column(own, 'accuracy')} | {column(own, 'macro_f1')} | {share:.0%} |")
    return "\n".join(lines)


def cross_validation_table() -> str:
    """By camera, with intervals."""
    lines = ["| camera | clips | accuracy | 95 % interval | macro-F1 |", "|---|---|---|---|---|"]
    lines.extend(
        f"| {row['camera']} | {row['clips']} | {float(row['accuracy']):.3f} "
        f"| {float(row['low']):.3f} to {float(row['high']):.3f} | {float(row['macro_f1']):.3f} |"
        for row in newest_results("evidence-cross-validation")
    )
    return "\n".join(lines)


def sweep_table() -> str:
    """Other configurations than the shipped one."""
    rows = newest_results("evidence-sweep")
    lines = [
        "| configuration | frames | MFLOPs a video | accuracy | macro-F1 | log loss | after the first frame | seeds |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(row["configuration"] for row in rows):
        own = [row for row in rows if row["configuration"] == name]
        lines.append(
            f"| {name} | {own[0]['frames']} | {float(own[0]['mflops_per_video']):.1f} | {column(own, 'accuracy')} "
            f"| {column(own, 'macro_f1')} | {column(own, 'log_loss')} | {column(own, 'accuracy_first_step')} "
            f"| {len(own)} |"
        )
    return "\n".join(lines)


def places_table() -> str:
    """The same weights with their patches in three places."""
    lines = [
        "| the same weights, patch | clips | accuracy | 95 %, over clips | what the policy gains | 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for row in newest_results("evidence-places"):
        gains = "– | –"
        if float(row["policy_gains"]):
            gains = (
                f"{float(row['policy_gains']):+.3f} | {float(row['gains_low']):+.3f} to {float(row['gains_high']):+.3f}"
            )
        lines.append(
            f"| {row['patch']} | {row['clips']} | {float(row['accuracy']):.3f} "
            f"| {float(row['low']):.3f} to {float(row['high']):.3f} | {gains} |"
        )
    return "\n".join(lines)


def leave_one_out_table() -> str:
    """Places that the model was not trained on, one at a time."""
    lines = [
        "| place left out | clips | accuracy | 95 % | macro-F1 | a constant answer |",
        "|---|---|---|---|---|---|",
    ]
    lines.extend(
        f"| {row['camera'].replace('_', ' ')} | {row['clips']} | {float(row['accuracy']):.3f} "
        f"| {float(row['low']):.3f} to {float(row['high']):.3f} | {float(row['macro_f1']):.3f} "
        f"| {float(row['largest_class']):.3f} |"
        for row in newest_results("evidence-leave-one-out")
    )
    return "\n".join(lines)

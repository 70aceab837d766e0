"""Compares the learning rates of arms of the study of ``sky``, and says what the rule that chooses among them gives.

    python -m benchmarks.evidence.sky_rates DATA MAPS RUNS [--write]

Of the first seed. Only rates at which an arm was trained in every fold count. By the rule an arm takes in each fold the
rate that is best in the others, so that no clip chooses how it is judged.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.evidence.sky_claim import FRAMES, SHOWN, Steps, chosen_rates, runs_of, steps_at
from benchmarks.evidence.sky_study import FOLDS, Study, study_options
from benchmarks.machine import write_results

RULE = "rule"
"""What stands for a rate in the row of the rule."""


def rate_rows(study: Study, runs: Path) -> list[dict[str, object]]:
    """Return a row for each arm and rate, and one for the rule, of arms that were trained at more than one rate."""
    rows: list[dict[str, object]] = []
    for arm in SHOWN:
        if arm == "box" or arm in FRAMES:
            continue
        every = runs_of(runs, arm)
        seed = min((int(key[1]) for key in every), default=0)
        tried = {rate for _, _, rate in every}
        rates = {rate for rate in tried if all((str(fold), str(seed), rate) in every for fold in range(FOLDS))}
        if len(rates) < 2:
            continue
        files = {key: file for key, file in every.items() if key[2] in rates}
        chosen = chosen_rates(files, study.labels)
        settings = {rate: dict.fromkeys(range(FOLDS), rate) for rate in sorted(rates, key=float)} | {RULE: chosen}
        for name, by_fold in settings.items():
            shares = shares_right(study, steps_at(study, files, by_fold, seed))
            words = " ".join(by_fold[fold] for fold in range(FOLDS))
            rows.append({"arm": arm, "rate": name, **shares, "by_fold": words})
    return rows


def shares_right(study: Study, steps: Steps) -> dict[str, object]:
    """Return the share of right answers among all clips, and among the close and medium ones."""
    right = steps[:, -1].argmax(axis=1) == study.labels
    near = np.array([item["distance"] != "distant" for item in study.items])
    return {
        "clips": len(right), "accuracy": round(float(right.mean()), 4),
        "close_and_medium": round(float(right[near].mean()), 4),
    }  # fmt: skip


def main() -> None:
    """Print the rows, and write them with ``--write``."""
    given = study_options(__doc__, "data", "maps", "runs").parse_args()
    rows = rate_rows(Study.open(given.data, given.maps), given.runs)
    for row in rows:
        print(*row.values(), sep="  ")
    if given.write:
        print(write_results("evidence-sky-rates", "five-folds", rows))


if __name__ == "__main__":
    main()

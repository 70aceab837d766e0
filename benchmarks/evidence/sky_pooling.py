"""Compares ways to join the frames of a clip on ``sky``: the mean of the focus's logits, and what a maximum can carry.

    python -m benchmarks.evidence.sky_pooling DATA RUNS [--write]

RUNS is a folder of `benchmarks.evidence.sky_folds`. The logits are those of patches on the true box, so that only the
way of joining differs. Every clip is judged by a network that saw no clip of its session. Intervals of the mean's gain
come from a paired bootstrap over clips, 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.evidence.sky_claim import RESAMPLES
from benchmarks.evidence.sky_study import Study, study_options
from benchmarks.machine import write_results

Logits = npt.NDArray[np.float32]
"""[clips, frames, classes]."""

Joined = npt.NDArray[np.float32]
"""[clips, classes]."""


def middle_of_extremes(logits: Logits) -> Joined:
    """Return the middle between the largest and the smallest logit of each class."""
    joined: Joined = (logits.max(axis=1) + logits.min(axis=1)) / 2
    return joined


def largest(logits: Logits) -> Joined:
    """Return the largest logit of each class."""
    joined: Joined = logits.max(axis=1)
    return joined


def mean(logits: Logits) -> Joined:
    """Return the mean of the logits."""
    joined: Joined = logits.mean(axis=1)
    return joined


def mean_probability(logits: Logits) -> Joined:
    """Return the mean over the frames of the softmax."""
    grown = np.exp(logits - logits.max(axis=2, keepdims=True))
    joined: Joined = (grown / grown.sum(axis=2, keepdims=True)).mean(axis=1)
    return joined


RULES: Mapping[str, Callable[[Logits], Joined]] = {
    "mean": mean,
    "mean probability": mean_probability,
    "middle of extremes": middle_of_extremes,
    "maximum": largest,
}


def rows_of(study: Study, runs: Path, arm: str) -> list[dict[str, object]]:
    """Return a row for each rule, over all seeds: over all clips that were judged, and in each fold."""
    logits: dict[int, dict[int, Logits]] = {}
    for file in sorted(runs.glob(f"{arm}-*.npz")):
        found, seed = np.load(file), int(file.stem.split("-")[2])
        logits.setdefault(seed, {}).update(zip(found["clips"].tolist(), found["box"], strict=True))
    if not logits:
        raise SystemExit(f"{runs} holds no run of {arm}; run python -m benchmarks.evidence.sky_folds first")
    own = np.array(sorted(set.intersection(*(set(of_seed) for of_seed in logits.values()))))
    labels = study.labels[own]
    near = np.array([study.items[number]["distance"] != "distant" for number in own.tolist()])
    random = np.random.default_rng(0)
    drawn = random.integers(len(own), size=(RESAMPLES, len(own)))
    every = [np.stack([of_seed[number] for number in own.tolist()]) for of_seed in logits.values()]
    right = {
        name: np.mean([rule(of_seed).argmax(axis=1) == labels for of_seed in every], axis=0)
        for name, rule in RULES.items()
    }
    rows: list[dict[str, object]] = []
    for name, answers in right.items():
        gains = right["mean"] - answers
        low, high = np.percentile(gains[drawn].mean(axis=1), [2.5, 97.5])
        parts = {"all": np.ones(len(own), bool)}
        parts |= {str(fold): study.folds[own] == fold for fold in sorted(set(study.folds[own].tolist()))}
        for part, inside in parts.items():
            rows.append({
                "fold": part, "rule": name, "clips": int(inside.sum()), "seeds": len(every),
                "accuracy": round(float(answers[inside].mean()), 4),
                "close_and_medium": round(float(answers[inside & near].mean()), 4),
                "mean_gains": round(float(gains[inside].mean()), 4),
                "gains_low": round(float(low), 4) if part == "all" else "",
                "gains_high": round(float(high), 4) if part == "all" else "",
            })  # fmt: skip
    return rows


def main() -> None:
    """Print the rows, and write them with ``--write``."""
    given = study_options(__doc__, "data", "runs").parse_args()
    rows = rows_of(Study.open(given.data, given.runs), given.runs, "method")
    for row in rows:
        print(*row.values(), sep="  ")
    if given.write:
        print(write_results("evidence-sky-pooling", "five-folds", rows))


if __name__ == "__main__":
    main()

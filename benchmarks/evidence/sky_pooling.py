"""Compares ways to join the frames of a clip on ``sky``: the mean of the focus's logits, and what a maximum can carry.

    python -m benchmarks.evidence.sky_pooling DATA RUNS [--arm NAME] [--write]

RUNS is a folder of `benchmarks.evidence.sky_folds`. The logits are those of patches on the true box, so that only the
way of joining differs. Every clip is judged by a network that saw no clip of its session. Intervals of the mean's gain
come from a paired bootstrap over clips, 95 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.evidence.sky_claim import RESAMPLES
from benchmarks.evidence.sky_folds import Study
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
    """Return a row for each rule: over all clips that were judged, and in each fold."""
    logits: dict[int, Logits] = {}
    for file in sorted(runs.glob(f"{arm}-*-0-*.npz")):
        found = np.load(file)
        logits |= dict(zip(found["clips"].tolist(), found["box"], strict=True))
    if not logits:
        raise SystemExit(f"{runs} holds no run of {arm}; run python -m benchmarks.evidence.sky_folds first")
    own = np.array(sorted(logits))
    every, labels = np.stack([logits[number] for number in own.tolist()]), study.labels[own]
    near = np.array([study.items[number]["distance"] != "distant" for number in own.tolist()])
    random = np.random.default_rng(0)
    drawn = random.integers(len(own), size=(RESAMPLES, len(own)))
    right = {name: rule(every).argmax(axis=1) == labels for name, rule in RULES.items()}
    rows: list[dict[str, object]] = []
    for name, answers in right.items():
        gains = right["mean"].astype(float) - answers
        low, high = np.percentile(gains[drawn].mean(axis=1), [2.5, 97.5])
        parts = {"all": np.ones(len(own), bool)}
        parts |= {str(fold): study.folds[own] == fold for fold in sorted(set(study.folds[own].tolist()))}
        for part, inside in parts.items():
            rows.append({
                "fold": part, "rule": name, "clips": int(inside.sum()),
                "accuracy": round(float(answers[inside].mean()), 4),
                "close_and_medium": round(float(answers[inside & near].mean()), 4),
                "mean_gains": round(float(gains[inside].mean()), 4),
                "gains_low": round(float(low), 4) if part == "all" else "",
                "gains_high": round(float(high), 4) if part == "all" else "",
            })  # fmt: skip
    return rows


def main() -> None:
    """Print the rows, and write them with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--arm", default="methodx3")
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    rows = rows_of(Study.open(given.data, given.runs), given.runs, given.arm)
    for row in rows:
        print(*row.values(), sep="  ")
    if given.write:
        print(write_results("evidence-sky-pooling", "five-folds", rows))


if __name__ == "__main__":
    main()

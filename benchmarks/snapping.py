"""Compares the answers of a bundle's points on frames as sampled with those on frames that move to key frames.

    python -m benchmarks.snapping PLAIN.npz SNAPPED.npz [--bundle bundles/sky]

Both files come from `benchmarks.exit_logits`, the second with ``--snap keyframe``, from the same checkpoint and clips
that it was not trained on. The thresholds are those of the bundle. Intervals of the difference are those of a paired
bootstrap over clips, 95 %.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from adafocus.bundle.exit_rule import ExitRule
from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import load_bundle
from adafocus.training.evaluate.certify import Exits
from benchmarks.certified_sets import Pool
from benchmarks.machine import Row, write_results
from benchmarks.service_process import ROOT

RESAMPLES = 10_000


def compared(plain: Pool, snapped: Pool, manifest: Manifest) -> list[Row]:
    """A row for each operating point.

    Raises:
        ValueError: the files are not about the same clips.
    """
    if not (np.array_equal(plain.truth, snapped.truth) and np.array_equal(plain.units, snapped.units)):
        raise ValueError("the two files are about different clips; make both from the same folder and checkpoint")
    steps, clips = plain.logits.shape[1], np.arange(len(plain.truth))
    rule = ExitRule(manifest.exit_criterion, manifest.temperatures or (manifest.temperature,) * steps)
    drawn = np.random.default_rng(0).integers(len(clips), size=(RESAMPLES, len(clips)))
    found: list[Row] = []
    for point in manifest.operating_points:
        exits = [Exits.of(pool.logits, rule) for pool in (plain, snapped)]
        taken = [one.steps(point.thresholds) for one in exits]
        answers = [one.answers[clips, own] for one, own in zip(exits, taken, strict=True)]
        right = [(own == plain.truth).astype(float) for own in answers]
        low, high = np.percentile((right[1] - right[0])[drawn].mean(axis=1), [2.5, 97.5])
        found.append({
            "point": point.name, "clips": len(clips), "right_plain": int(right[0].sum()),
            "right_snapped": int(right[1].sum()), "same_answer": round(float((answers[0] == answers[1]).mean()), 4),
            "gain_low": round(float(low), 4), "gain_high": round(float(high), 4),
            "mean_steps_plain": round(float(taken[0].mean() + 1), 3),
            "mean_steps_snapped": round(float(taken[1].mean() + 1), 3),
        })  # fmt: skip
    return found


def main() -> None:
    """Compare and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plain", type=Path)
    parser.add_argument("snapped", type=Path)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    options = parser.parse_args()
    manifest = load_bundle(options.bundle).manifest
    rows = compared(Pool.read(options.plain), Pool.read(options.snapped), manifest)
    for row in rows:
        print(row)
    print(write_results("snapping", manifest.name, rows))


if __name__ == "__main__":
    main()

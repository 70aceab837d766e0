"""Certified points on clips of real models, beside points chosen by rules: their cost, and their risk on unseen clips.

    python -m benchmarks.certified_sets NAME LOGITS.npz [--clips 64 320 2000] [--ask 0.25] [--calibrations 20]

LOGITS is a file of `benchmarks.exit_logits`. Each calibration draws that many clips, whole groups of them where there
are groups, and both ways of choosing points see the same ones. The points are judged on all other clips. Rows of other
sets are kept in the CSV.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adafocus.training.evaluate.certified_points import Clips, Promises
from adafocus.training.evaluate.certify import smallest_epsilon, split_units
from adafocus.training.evaluate.metrics import Logits, Truth
from benchmarks.certified_points import Judged, calibrate_both_ways, judged
from benchmarks.machine import Row, with_earlier, write_results


@dataclass(frozen=True)
class Pool:
    """Clips that a model was not trained on: logits [N, T, C], labels [N] or [N, C], and the unit of each."""

    logits: Logits
    truth: Truth
    units: npt.NDArray[np.str_]

    @classmethod
    def read(cls, path: Path) -> Pool:
        """Read a file of `benchmarks.exit_logits`."""
        with np.load(path) as file:
            return cls(file["logits"], file["truth"], file["units"])

    def split(self, clips: int, random: np.random.Generator) -> tuple[Pool, Pool]:
        """About so many clips to calibrate on, and all others: units, in random order, until there are enough."""
        names, sizes = np.unique(self.units, return_counts=True)
        order = random.permutation(len(names))
        enough = int(np.searchsorted(np.cumsum(sizes[order]), clips)) + 1
        chosen = np.isin(self.units, names[order[:enough]])
        return self._only(chosen), self._only(~chosen)

    def _only(self, kept: npt.NDArray[np.bool_]) -> Pool:
        return Pool(self.logits[kept], self.truth[kept], self.units[kept])


def measure(name: str, pool: Pool, clips: int, calibrations: int, promises: Promises) -> Iterator[Row]:
    """Rows of the table: one per way of choosing and point."""
    found: dict[tuple[str, str], list[tuple[Judged, bool]]] = {}
    tested, used = [], []
    for seed in range(calibrations):
        mine, others = pool.split(clips, np.random.default_rng(seed))
        used.append(len(mine.logits))
        tested.append(len(split_units(mine.units.tolist())[1]))
        ways = calibrate_both_ways(Clips(mine.logits, mine.units.tolist()), mine.truth, promises=promises)
        for way, calibration in ways.items():
            promised = {point.name for point in calibration.points if point.guarantee}
            for point, result in judged(calibration, others.logits).items():
                found.setdefault((way, point), []).append((result, point in promised))
    for (way, point), results in found.items():
        if point == "full":
            continue
        epsilon = promises.epsilons()[point]
        broken = [result.changed > epsilon for result, promised in results if promised]
        yield {
            "data": name,
            "clips": round(statistics.mean(used)),
            "tested": round(statistics.mean(tested)),
            "smallest_epsilon": round(smallest_epsilon(round(statistics.mean(tested)), 0.95), 4),
            "judged": len(pool.logits) - round(statistics.mean(used)),
            "way": way,
            "point": point,
            "epsilon": epsilon,
            "calibrations": calibrations,
            "certified": len(broken),
            "share_of_full_median": round(statistics.median(result.cost for result, _ in results), 4),
            "changed_mean": round(statistics.mean(result.changed for result, _ in results), 5),
            "above_epsilon": sum(result.changed > epsilon for result, _ in results),
            "promises_broken": sum(broken),
        }


def main() -> None:
    """Measure one set and write the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("logits", type=Path)
    parser.add_argument("--clips", type=int, nargs="+", default=[64, 320, 2000])
    parser.add_argument("--calibrations", type=int, default=20)
    parser.add_argument("--ask", type=float, nargs="*", default=[], help="further epsilons to certify")
    options = parser.parse_args()
    pool, promises = Pool.read(options.logits), Promises(tuple(options.ask))
    rows = [
        row for clips in options.clips for row in measure(options.name, pool, clips, options.calibrations, promises)
    ]
    keys = ("data", "clips", "way", "point")
    print(write_results("certified-sets", "models", with_earlier("certified-sets", rows, keys)))


if __name__ == "__main__":
    main()

"""Measures whether another order of visits saves decoding, when it is chosen for each video from its key frames.

The published order halves gaps: the middle frame, both ends, the middles between those, and so on. Within such a round
any order has shown the model as much once the round is over, and the order mirrored in time shows as much after every
step. `cheapest_order` chooses, among the orders that are permitted, the one whose expected decoding is cheapest, given
how likely each step is to run.

    python -m benchmarks.visit_order FOLDER --frames FRAMES.npz [--count 60] [--rounds 5]

FOLDER has the clips of ``sky``, at any depth. FRAMES has ``logits`` float32 [N, T, C] of single frames in time order,
``truth`` int64 [N] and ``files``, the clips' paths in FOLDER, of a model whose answer is the mean of the largest and
the smallest logit of each class, as that of ``bundles/sky``: its accuracy in any order follows from them. Other clips
are generated. Processor time includes opening and planning; the number of steps of a video is drawn from the exit
shares of ``balanced``, the same for every way.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import ExitRule
from adafocus.bundle.store import load_bundle
from adafocus.training.evaluate.certify import Exits
from adafocus.video.decoder import FrameStream
from adafocus.video.frame_index import FrameIndex
from adafocus.video.plan import plan
from adafocus.video.probe import open_video
from adafocus.video.sampler import intervals, sample_indices, snapped, visiting_order
from adafocus.video.transform import Geometry
from benchmarks.machine import Row, write_results
from benchmarks.plans import KINDS, make_clip
from benchmarks.service_process import ROOT

Order = tuple[int, ...]


def rounds(n: int) -> list[Order]:
    """The positions that each round of the published order adds: the middle, the ends, then halves of all gaps."""
    order, found, pieces = visiting_order(n, "coarse_to_fine"), [], 2
    left = list(order)
    for size in (1, 2):
        if left:
            found.append(tuple(left[:size]))
            left = left[size:]
    while left:
        last = n - 1
        cuts = [last * i // pieces for i in range(pieces + 1)]
        new = {(a + b) // 2 for a, b in itertools.pairwise(cuts)}
        taken = tuple(itertools.takewhile(new.__contains__, left))
        if taken:
            found.append(taken)
            left = left[len(taken) :]
        pieces *= 2
    return found


def equal_orders(n: int) -> Iterator[Order]:
    """Orders that show the model as much: each round forwards or backwards in time, and all of it mirrored."""
    ways = [[one] if len(one) < 2 else [tuple(sorted(one)), tuple(sorted(one, reverse=True))] for one in rounds(n)]
    for chosen in itertools.product(*ways):
        order = tuple(itertools.chain.from_iterable(chosen))
        yield order
        yield tuple(n - 1 - position for position in order)


def expected_packets(index: FrameIndex, wanted: Sequence[int], reach: Sequence[float]) -> float:
    """Packets that a video costs on average.

    Args:
        index: of its packets.
        wanted: frame at each step.
        reach: how likely each step is to run; never rising.
    """
    return sum(reach[part.position] * (part.stop - part.start) for part in plan(index, wanted))


def cheapest_order(index: FrameIndex, sampled: Sequence[int], reach: Sequence[float], orders: Sequence[Order]) -> Order:
    """Choose the order, of those that are permitted, whose expected decoding is cheapest; the first of several.

    Args:
        index: of the video's packets.
        sampled: its frames in time order.
        reach: how likely each step is to run.
        orders: permutations of the frames' positions.
    """
    return min(orders, key=lambda order: expected_packets(index, [sampled[position] for position in order], reach))


def reach_of(exit_shares: Sequence[float]) -> tuple[float, ...]:
    """How likely each step is to run, from the share of videos that exit after each step."""
    return tuple(float(share) for share in np.cumsum(np.array(exit_shares)[::-1])[::-1])


Choice = Callable[[int], Sequence[Order]]

CHOICES: dict[str, Choice] = {
    "published": lambda n: [visiting_order(n, "coarse_to_fine")],
    "cheapest of equal orders": lambda n: [visiting_order(n, "coarse_to_fine"), *equal_orders(n)],
    "cheapest frame first": lambda n: [
        (first, *(one for one in visiting_order(n, "coarse_to_fine") if one != first)) for first in range(n)
    ],
    "forwards in time": lambda n: [visiting_order(n, "sequential")],
    "published, snapped to key frames": lambda n: [visiting_order(n, "coarse_to_fine")],
}
"""The ways of choosing an order, by name: the orders that are permitted for so many frames."""

COPIES = 10
"""A generated clip counts so often, each time with another number of steps."""

SNAPPED = "published, snapped to key frames"


def planned(index: FrameIndex, way: str, reach: Sequence[float]) -> tuple[Order, list[int]]:
    """The order that a way chooses for a video, and the frames at each step."""
    steps = len(reach)
    sampled = sample_indices(index.frames, steps)
    if way == SNAPPED:
        sampled = snapped(sampled, intervals(index.frames, steps), index.key_frames)
    orders = CHOICES[way](steps)
    order = orders[0] if len(orders) == 1 else cheapest_order(index, sampled, reach, orders)
    return order, [sampled[position] for position in order]


@dataclass(frozen=True)
class Cost:
    """What one video cost: processor milliseconds, and expected packets."""

    milliseconds: float
    packets: float


def decode(path: Path, way: str, reach: Sequence[float], steps: int, geometry: Geometry) -> Cost:
    """Open and plan a video, and decode the frames of its first steps."""
    begun = time.process_time()
    with path.open("rb") as file, open_video(file) as video:
        _, wanted = planned(video.index, way, reach)
        stream = FrameStream(video, wanted, geometry)
        for _ in range(steps):
            stream.next()
        stream.close()
        spent = time.process_time() - begun
        return Cost(1e3 * spent, expected_packets(video.index, wanted, reach))


def measure(clips: Sequence[Path], reach: Sequence[float], geometry: Geometry, times: int) -> dict[str, Cost]:
    """Mean over clips of the median over turns, by way; the ways take turns on each clip."""
    shares = -np.diff([*reach, 0.0])
    drawn = 1 + np.random.default_rng(0).choice(len(reach), size=len(clips), p=shares / shares.sum())
    found: dict[str, list[Cost]] = {way: [] for way in CHOICES}
    for path, steps in zip(clips, drawn, strict=True):
        turns = [{way: decode(path, way, reach, int(steps), geometry) for way in CHOICES} for _ in range(times)]
        for way in CHOICES:
            spent = statistics.median(turn[way].milliseconds for turn in turns)
            found[way].append(Cost(spent, turns[0][way].packets))
    return {
        way: Cost(statistics.mean(one.milliseconds for one in own), statistics.mean(one.packets for one in own))
        for way, own in found.items()
    }


@dataclass(frozen=True)
class Frames:
    """Logits of single frames in time order [N, T, C], true classes [N], and files of clips."""

    logits: npt.NDArray[np.float32]
    truth: npt.NDArray[np.int64]
    files: Sequence[Path]

    def right(self, orders: Sequence[Order], rule: ExitRule, thresholds: Sequence[float | None]) -> tuple[float, float]:
        """Accuracy and mean number of steps with early exits, each clip in its own order."""
        order = np.array(orders)[:, :, None]
        seen = np.take_along_axis(self.logits, order, axis=1)
        logits = (np.maximum.accumulate(seen, axis=1) + np.minimum.accumulate(seen, axis=1)) / 2
        exits = Exits.of(logits.astype(np.float32), rule)
        steps = exits.steps(tuple(thresholds))
        right = exits.answers[np.arange(len(steps)), steps] == self.truth
        return float(right.mean()), float(steps.mean() + 1)


def orders_of(files: Sequence[Path], way: str, reach: Sequence[float]) -> list[Order]:
    """The order that a way chooses for each file."""
    found = []
    for path in files:
        with path.open("rb") as file, open_video(file) as video:
            found.append(planned(video.index, way, reach)[0])
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    manifest = load_bundle(ROOT / "bundles" / "sky").manifest
    point = next(one for one in manifest.operating_points if one.name == "balanced")
    reach = reach_of(point.exit_shares or ())
    geometry = Geometry(manifest.geometry.resize, manifest.geometry.crop, manifest.geometry.fit)
    with np.load(options.frames) as file:
        frames = Frames(file["logits"], file["truth"], [options.folder / str(name) for name in file["files"]])
    rule = ExitRule(manifest.exit_criterion, (manifest.temperature,) * len(reach))
    found: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        sets = {"sky, 10 s, three key frames": frames.files[:: max(1, len(frames.files) // options.count)]}
        for kind in (KINDS[0], KINDS[2]):
            path = Path(made) / f"{len(sets)}.mp4"
            path.write_bytes(make_clip(kind))
            sets[kind.name] = [path] * COPIES
        for name, clips in sets.items():
            costs = measure(clips, reach, geometry, options.rounds)
            for way, cost in costs.items():
                judged = clips[0] in frames.files and way != SNAPPED
                right, steps = ("", "")
                if judged:
                    right, steps = map(str, frames.right(orders_of(frames.files, way, reach), rule, point.thresholds))
                found.append({
                    "clips": name, "videos": len(clips), "order": way,
                    "expected_packets": round(cost.packets, 2), "cpu_ms": round(cost.milliseconds, 3),
                    "accuracy_balanced": right[:6], "mean_steps": steps[:5],
                })  # fmt: skip
                print(found[-1], flush=True)
    print(write_results("visit-order", "sky", found))


if __name__ == "__main__":
    main()

"""Measures the space that the kept frames of a published data set need, and the processor time to read a clip once.

    python -m benchmarks.training_room ../shared/datasets/asl20_demo

Space is computed as `adafocus train` does before the first epoch. Time is measured on the videos of a folder, and on a
folder of frames made from one of them, as processor time of all threads.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from adafocus.training.data.augment import jitter_per_segment
from adafocus.training.data.capacity import bytes_of_clip
from adafocus.training.data.clips import Clip, ClipSet
from adafocus.training.data.crop_plan import CropPlan, training_plan
from adafocus.training.data.crops import decode_all, decode_clip
from adafocus.training.data.loading import AnyMoment, KeptMoments
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe_files import load_recipe
from benchmarks.machine import write_results

SETS = {"actnet_mbv2_p128": 10_024, "minik_mbv2_p128": 121_215, "sthv2_tsm_p128": 168_913}
"""Clips of the training lists, as their authors count them."""

VIDEOS = 6


@dataclass(frozen=True)
class Way:
    """What is kept: moments a segment, side of the square, and quality of JPEG."""

    name: str
    candidates: int
    side: int
    jpeg_quality: int

    def plan(self, recipe: str) -> CropPlan:
        """Return the plan of a recipe, kept in this way."""
        plan = training_plan(load_recipe(recipe))
        return replace(
            plan, candidates=self.candidates, resize=self.side, crop=self.side, jpeg_quality=self.jpeg_quality
        )


WAYS = (
    Way("2 moments, raw pixels", 2, 256, 0),
    Way("8 moments, raw pixels", 8, 360, 0),
    Way("8 moments, JPEG", 8, 360, 95),
    Way("any moment, decoded anew", 0, 360, 95),
)


def as_frames(clip: Clip, folder: Path) -> Clip:
    """The clip as a folder of JPEG frames, as the published data sets come."""
    plan = CropPlan(128, tuple(range(128)), 0, 360, 360)
    folder.mkdir()
    for number, frame in enumerate(decode_clip(clip, plan)):
        Image.fromarray(frame).save(folder / f"image_{number + 1:05d}.jpg", quality=90)
    return Clip(folder, 0, "frames", template="image_{:05d}.jpg", frames=128, listed=True)


def milliseconds(clips: Sequence[Clip], plan: CropPlan) -> float:
    """Processor time to show a clip once, after what is kept has been decoded."""
    crops = decode_all(ClipSet(("a", "b"), tuple(clips), {}), plan, keep=plan.candidates > 0)
    moments = KeptMoments(crops, plan, jitter_per_segment) if plan.candidates else AnyMoment(crops, plan, print)
    show: Callable[[int, np.random.Generator], object] = moments
    random, start, rounds = np.random.default_rng(0), time.process_time(), 3
    for _ in range(rounds):
        for number in range(len(clips)):
            show(number, random)
    return round((time.process_time() - start) / (rounds * len(clips)) * 1e3, 1)


def main() -> None:
    """Measure, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    videos = list_clips(options.data).clips[:VIDEOS]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        frames = [as_frames(videos[0], Path(folder) / "frames")]
        for way in WAYS:
            plan = way.plan("actnet_mbv2_p128")
            spent = {
                "video_ms": round(milliseconds(videos, plan), 1),
                "frames_ms": round(milliseconds(frames, plan), 1),
            }
            for recipe, clips in SETS.items():
                each = bytes_of_clip(way.plan(recipe)) if way.candidates else 0
                row = {"recipe": recipe, "clips": clips, "kept": way.name, "mb_per_clip": round(each / 1e6, 2)}
                rows.append({**row, "gb": round(each * clips / 1e9, 1), **spent})
    print(write_results("training-room", options.data.name, rows))


if __name__ == "__main__":
    main()

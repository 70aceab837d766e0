"""Generates a video set in which a clip has several labels: the colours of the plates that come and go in it.

One to three plates of different colours drift over a moving background. Each is there for a part of the time only, so a
label may be certain after one frame or show up in a late one, and the absence of a label is certain at the end at the
earliest. Operating points for several labels are judged on such clips (`benchmarks.certified_sets`).

    python -m benchmarks.evidence.colours FOLDER [--train 800] [--val 2000] [--seed 0]

Real files: H.264 in MP4, with a manifest. The same seed gives the same pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.evidence import hatching
from benchmarks.evidence.hatching import Picture, Plate

COLOURS = {
    "orange": hatching.ORANGE,
    **dict(zip(("blue", "green", "purple", "teal"), hatching.OTHERS, strict=True)),
}
MOST = 3
"""Plates in a clip, at most; there is at least one."""


@dataclass(frozen=True)
class Scene:
    """A clip before it is drawn: its labels, and the plates of the same order."""

    labels: tuple[str, ...]
    plates: tuple[Plate, ...]


def scene(random: np.random.Generator) -> Scene:
    """Draw a clip: which colours it has, where their plates go, and when they are there."""
    count = int(random.integers(1, MOST + 1))
    labels = tuple(sorted(random.choice(list(COLOURS), count, replace=False).tolist()))
    moving = [hatching.plates(0, random)[-1] for _ in labels]
    return Scene(
        labels, tuple(replace(plate, colour=COLOURS[label]) for label, plate in zip(labels, moving, strict=True))
    )


def pictures(made: Scene, seed: int) -> Iterator[Picture]:
    """The frames of a clip: uint8 [SIDE, SIDE, 3]. A plate that is there is hatched."""
    for frame in range(hatching.FRAMES):
        there = [plate for plate in made.plates if plate.shown[frame]]
        yield from hatching.drawn(there, np.random.default_rng([5, seed]), [frame])


def _write(job: tuple[Path, tuple[int, int, int]]) -> list[str]:
    path, seed = job
    made = scene(np.random.default_rng(seed))
    if not path.exists():
        part = path.with_name(f"{path.stem}.part.mp4")
        hatching.write_pictures(part, pictures(made, seed[-1]))
        part.replace(path)
    return list(made.labels)


def make(folder: Path, counts: dict[str, int], seed: int = 0) -> None:
    """Create the set with its manifest. What was made before is kept."""
    if (folder / "manifest.json").exists():
        return
    jobs = [
        (folder / split / f"{number:04d}.mp4", (seed, part, number))
        for part, (split, count) in enumerate(counts.items())
        for number in range(count)
    ]
    with ProcessPoolExecutor() as pool:
        made = pool.map(_write, jobs, chunksize=8)
        labels = list(tqdm(made, total=len(jobs), unit="clip", disable=not sys.stderr.isatty(), leave=False))
    items = [
        {"file": str(path.relative_to(folder)), "labels": own, "split": path.parent.name}
        for (path, _), own in zip(jobs, labels, strict=True)
    ]
    about = {"name": "colours", "source": "made by benchmarks.evidence.colours", "licence": "Apache-2.0"}
    (folder / "manifest.json").write_text(json.dumps({**about, "items": items}), encoding="utf-8")


def main() -> None:
    """Generate the set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=800)
    parser.add_argument("--val", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.folder, {"train": options.train, "val": options.val}, options.seed)


if __name__ == "__main__":
    main()

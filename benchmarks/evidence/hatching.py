"""Generates a video set in which the decisive detail is small, sharp and anywhere in the frame.

One orange plate drifts over a moving background, among plates of other colours. The class is the direction of the fine
hatching on the orange plate; the others are hatched in random directions. Lines are 2.6 to 3.8 pixels apart,
differently in every clip. A frame shrunk to the size of a glance shows where the orange plate is, but its hatching
becomes an even tint or, where it is undersampled, lines in another direction. The hatching is visible only part of the
time, in some clips nearly always, in others rarely, so the number of frames that are needed differs between clips.

    python -m benchmarks.evidence.hatching FOLDER [--train 1600] [--val 360] [--seed 0]

Real files: H.264 in MP4, read by the same decoder as any other video. The same seed gives the same pictures.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

SIDE = 144
FRAMES = 16
RATE = 8
PLATE = 32
RIM = 2
"""Width of a plate's edge that is never hatched, pixels."""

CLASSES = 6
WAVER = 0.03
"""Deviation of a clip's direction from that of its class, radians."""

APART = (2.6, 3.8)
"""Between these lies the distance from line to line, pixels."""

DISTRACTORS = 2
DARK = 15
DEEPEST = 0.8
"""How much of the way to `DARK` the middle of a line goes."""

ORANGE = (235, 130, 30)
OTHERS = ((60, 110, 220), (70, 170, 80), (160, 80, 190), (90, 170, 190))
SHOWN = (0.2, 1.0)
"""Between these lies the share of a clip's frames that show the hatching."""

BACKGROUNDS = 4
"""So few that none tells a clip from the others: a small network learns clips by heart if it can."""

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Plate:
    """A plate: colour, how dark its lines make each pixel, start, drift a frame (pixels), when they show."""

    colour: tuple[int, int, int]
    lines: npt.NDArray[np.float64]
    start: npt.NDArray[np.float64]
    drift: npt.NDArray[np.float64]
    shown: npt.NDArray[np.bool_]

    def corner(self, frame: int) -> tuple[int, int]:
        """Row and column of its corner: it bounces off the edges."""
        span = SIDE - PLATE
        there = np.abs((self.start + self.drift * frame + span) % (2 * span) - span)
        return int(there[0]), int(there[1])


def hatching(direction: float, random: np.random.Generator) -> npt.NDArray[np.float64]:
    """Sinusoidal lines across a plate: 0 to `DEEPEST` [PLATE, PLATE]; their distance and phase are random."""
    return lines(direction, random.uniform(*APART), random.uniform(0, 2 * np.pi))


def lines(direction: float, apart: float, phase: float) -> npt.NDArray[np.float64]:
    """Sinusoidal lines across a plate, so many pixels from one to the next: 0 to `DEEPEST` [PLATE, PLATE]."""
    down, right = np.mgrid[:PLATE, :PLATE]
    across = down * np.sin(direction) + right * np.cos(direction)
    inner = np.pad(np.ones((PLATE - 2 * RIM, PLATE - 2 * RIM)), RIM)
    return inner * DEEPEST * (0.5 + 0.5 * np.sin(2 * np.pi * across / apart + phase))


def plates(label: int, random: np.random.Generator) -> list[Plate]:
    """The plates of a clip of a class. The orange plate comes last, so that no other covers it."""
    colours = [OTHERS[index] for index in random.permutation(len(OTHERS))[:DISTRACTORS]]
    strangers = random.uniform(0, np.pi, DISTRACTORS)
    own = np.pi * label / CLASSES + random.normal(0, WAVER)
    made = []
    for colour, direction in zip([*colours, ORANGE], [*strangers, own], strict=True):
        share = random.uniform(*SHOWN)
        phase, turns = random.uniform(0, 1), random.integers(2, 5)
        moments = (np.arange(FRAMES) / FRAMES * turns + phase) % 1
        shown = moments < share
        if not shown.any():
            shown[int(random.integers(FRAMES))] = True
        start, drift = random.uniform(0, SIDE - PLATE, 2), random.uniform(-5, 5, 2)
        made.append(Plate(colour, hatching(direction, random), start, drift, shown))
    return made


def pictures(label: int, random: np.random.Generator) -> Iterator[Picture]:
    """The frames of a clip: uint8 [SIDE, SIDE, 3]."""
    return drawn(plates(label, random), random, range(FRAMES))


def drawn(things: list[Plate], random: np.random.Generator, frames: Iterable[int]) -> Iterator[Picture]:
    """Draw some frames of a clip with these plates: uint8 [SIDE, SIDE, 3]."""
    coarse = np.random.default_rng([11, int(random.integers(BACKGROUNDS))]).uniform(60, 170, (9, 9, 3))
    start, drift = random.uniform(0, SIDE, 2), random.uniform(-2, 2, 2)
    noise = random.normal(0, 6, (2 * SIDE, 2 * SIDE, 1))
    for frame in frames:
        top, left = random.integers(SIDE, size=2)
        picture = _background(coarse, start + drift * frame) + noise[top : top + SIDE, left : left + SIDE]
        for plate in things:
            _draw(picture, plate, frame)
        yield np.clip(picture, 0, 255).astype(np.uint8)


def _background(coarse: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Soft blobs that move: a coarse grid, interpolated and wrapped around."""
    size = len(coarse)
    for axis in (0, 1):
        places = ((np.arange(SIDE) + shift[axis]) * size / SIDE) % size
        low = np.floor(places).astype(int) % size
        weight = (places - np.floor(places)).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        coarse = np.take(coarse, low, axis) * (1 - weight) + np.take(coarse, (low + 1) % size, axis) * weight
    return coarse


def _draw(picture: npt.NDArray[np.float64], plate: Plate, frame: int) -> None:
    top, left = plate.corner(frame)
    face = picture[top : top + PLATE, left : left + PLATE]
    face[:] = plate.colour
    if plate.shown[frame]:
        face += (DARK - face) * plate.lines[..., None]


def write_clip(path: Path, label: int, random: np.random.Generator) -> None:
    """Write one clip of a class."""
    write_pictures(path, pictures(label, random))


def write_pictures(path: Path, frames: Iterable[Picture]) -> None:
    """Write frames as H.264 in MP4, at a quality that keeps the lines sharp."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "8", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _write(job: tuple[Path, int, tuple[int, int, int]]) -> None:
    path, label, seed = job
    write_clip(path, label, np.random.default_rng(seed))


def make(folder: Path, counts: dict[str, int], seed: int = 0) -> None:
    """Create the set with its manifest. Existing files are kept."""
    if (folder / "manifest.json").exists():
        return
    jobs = [
        (folder / split / f"hatching_{number % CLASSES}" / f"{number:04d}.mp4", number % CLASSES, (seed, part, number))
        for part, (split, count) in enumerate(counts.items())
        for number in range(count)
    ]
    with ProcessPoolExecutor() as pool:
        made = pool.map(_write, jobs, chunksize=8)
        for _ in tqdm(made, total=len(jobs), unit="clip", disable=not sys.stderr.isatty(), leave=False):
            pass
    files = [path.relative_to(folder) for path, _, _ in jobs]
    items = [{"file": str(file), "label": file.parts[1], "split": file.parts[0]} for file in files]
    about = {"name": "hatching", "source": "made by benchmarks.evidence.hatching", "licence": "Apache-2.0"}
    (folder / "manifest.json").write_text(json.dumps({**about, "items": items}), encoding="utf-8")


def main() -> None:
    """Generate the set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=1600)
    parser.add_argument("--val", type=int, default=360)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.folder, {"train": options.train, "val": options.val}, options.seed)


if __name__ == "__main__":
    main()

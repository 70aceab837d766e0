"""A made video set in which what decides the class is small, sharp and somewhere in the frame.

One orange plate drifts over a moving background, among plates of other colours. A glyph of four by four cells on the
orange one is the class; the others carry glyphs of another alphabet, which mean nothing. A cell is four pixels wide,
its edges are soft, and every block of two by two cells is half dark: a frame shrunk to the size of a glance shows where
the orange plate is, but not what is on it. The glyph is shown only part of the time, in some clips nearly always, in
others seldom: how many frames are needed differs from clip to clip.

    python -m benchmarks.evidence.glyphs FOLDER [--train 1600] [--val 360] [--seed 0]

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

SIDE = 96
FRAMES = 32
RATE = 16
CELLS = 4
CELL = 4
PLATE = 24
CLASSES = 6
DISTRACTORS = 2
DARK = 15
ORANGE = (235, 130, 30)
OTHERS = ((60, 110, 220), (70, 170, 80), (160, 80, 190), (90, 170, 190))
SHOWN = (0.2, 1.0)
"""Between these lies the share of a clip's frames that show the glyph."""

BACKGROUNDS = 4
"""So few that none tells a clip from the others: a small network learns clips by heart if it can."""

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Plate:
    """A plate's colour, the glyph on it, where it starts, how it drifts (pixels a frame), and when it shows."""

    colour: tuple[int, int, int]
    glyph: npt.NDArray[np.bool_]
    start: npt.NDArray[np.float64]
    drift: npt.NDArray[np.float64]
    shown: npt.NDArray[np.bool_]

    def corner(self, frame: int) -> tuple[int, int]:
        """Row and column of its corner: it bounces off the edges."""
        room = SIDE - PLATE
        there = np.abs((self.start + self.drift * frame + room) % (2 * room) - room)
        return int(there[0]), int(there[1])


def alphabet(seed: int = 7) -> npt.NDArray[np.bool_]:
    """Glyphs [CLASSES, CELLS, CELLS]: every block of two by two cells is half dark; all are far from each other."""
    random = np.random.default_rng(seed)
    half = CELLS // 2
    found: list[npt.NDArray[np.bool_]] = []
    while len(found) < CLASSES:
        blocks = np.stack([random.permutation([True, True, False, False]) for _ in range(half * half)])
        glyph = blocks.reshape(half, half, 2, 2).swapaxes(1, 2).reshape(CELLS, CELLS)
        if all((glyph != other).sum() >= 6 for other in found):
            found.append(glyph)
    return np.stack(found)


def plates(label: int, random: np.random.Generator, letters: npt.NDArray[np.bool_]) -> list[Plate]:
    """What is in a clip of that class; the orange plate last, so that nothing hides it."""
    colours = [OTHERS[index] for index in random.permutation(len(OTHERS))[:DISTRACTORS]]
    strangers = alphabet(seed=8)[random.integers(CLASSES, size=DISTRACTORS)]
    made = []
    for colour, glyph in [*zip(colours, strangers, strict=True), (ORANGE, letters[label])]:
        share = random.uniform(*SHOWN)
        phase, turns = random.uniform(0, 1), random.integers(2, 5)
        moments = (np.arange(FRAMES) / FRAMES * turns + phase) % 1
        shown = moments < share
        if not shown.any():
            shown[int(random.integers(FRAMES))] = True
        made.append(Plate(colour, glyph, random.uniform(0, SIDE - PLATE, 2), random.uniform(-2.5, 2.5, 2), shown))
    return made


def pictures(label: int, random: np.random.Generator) -> Iterator[Picture]:
    """The frames of a clip: uint8 [SIDE, SIDE, 3]."""
    return drawn(plates(label, random, alphabet()), random, range(FRAMES))


def drawn(things: list[Plate], random: np.random.Generator, frames: Iterable[int]) -> Iterator[Picture]:
    """Some frames of a clip with these plates: uint8 [SIDE, SIDE, 3]."""
    coarse = np.random.default_rng([11, int(random.integers(BACKGROUNDS))]).uniform(60, 170, (9, 9, 3))
    start, drift = random.uniform(0, SIDE, 2), random.uniform(-1, 1, 2)
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
    picture[top : top + PLATE, left : left + PLATE] = plate.colour
    if not plate.shown[frame]:
        return
    margin = (PLATE - CELLS * CELL) // 2
    dark = np.pad(np.kron(plate.glyph, np.ones((CELL, CELL))), margin)
    soft = sum(np.roll(dark, (down, right), (0, 1)) for down in (-1, 0, 1) for right in (-1, 0, 1)) / 9
    face = picture[top : top + PLATE, left : left + PLATE]
    face += (DARK - face) * soft[..., None]


def write_clip(path: Path, label: int, random: np.random.Generator) -> None:
    """One clip as H.264 in MP4, at a quality that keeps the cells sharp."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "8", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        stream.codec_context.thread_count = 1
        for picture in pictures(label, random):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _write(job: tuple[Path, int, tuple[int, int, int]]) -> None:
    path, label, seed = job
    write_clip(path, label, np.random.default_rng(seed))


def make(folder: Path, counts: dict[str, int], seed: int = 0) -> None:
    """The set with its manifest; what is there is left."""
    if (folder / "manifest.json").exists():
        return
    jobs = [
        (folder / split / f"glyph_{number % CLASSES}" / f"{number:04d}.mp4", number % CLASSES, (seed, part, number))
        for part, (split, count) in enumerate(counts.items())
        for number in range(count)
    ]
    with ProcessPoolExecutor() as pool:
        made = pool.map(_write, jobs, chunksize=8)
        for _ in tqdm(made, total=len(jobs), unit="clip", disable=not sys.stderr.isatty(), leave=False):
            pass
    items = [
        {"file": str(path.relative_to(folder)), "label": f"glyph_{label}", "split": path.relative_to(folder).parts[0]}
        for path, label, _ in jobs
    ]
    about = {"name": "glyphs", "source": "made by benchmarks.evidence.glyphs", "licence": "Apache-2.0"}
    (folder / "manifest.json").write_text(json.dumps({**about, "items": items}), encoding="utf-8")


def main() -> None:
    """Make the set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=1600)
    parser.add_argument("--val", type=int, default=360)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make(options.folder, {"train": options.train, "val": options.val}, options.seed)


if __name__ == "__main__":
    main()

"""Renders the sample clips: a small thing that flies through a sky, for a visible and for an infrared camera.

Nothing in them is filmed: sky, clouds and noise are random numbers with a fixed seed, and the things are polygons with
the motion of their kind. Run ``python -m samples.make [FOLDER]``; the same versions of Pillow and PyAV give the same
files.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

RATE: Final = 25
SECONDS: Final = 6
FINE: Final = 8
"""Things are drawn so many times larger, then shrunk: their edges are smooth and move by fractions of a pixel."""

Picture = npt.NDArray[np.float32]
"""[height, width, 3], grey levels."""

Point = tuple[float, float]
Pen = Callable[[ImageDraw.ImageDraw, float, float], None]
"""Draws a thing in units of its length about the middle of a canvas: pen, pixels per unit, time in seconds."""


@dataclass(frozen=True)
class Scene:
    """One clip.

    Attributes:
        name: of the file without suffix; it begins with the label.
        size: width and height of the picture, pixels.
        draw: the thing; brightness 0 to 255 is a share of ``tone``.
        length: of the thing, pixels.
        path: place of its middle as shares of width and height, at a time from 0 to 1.
        tone: colour of the thing's brightest parts.
        sky: colours at the top and the bottom.
        cloud: strength of the clouds, grey levels.
        noise: of the camera, grey levels.
        seed: of clouds and noise.
        trail: whether it leaves a contrail.
    """

    name: str
    size: tuple[int, int]
    draw: Pen
    length: float
    path: Callable[[float], Point]
    tone: tuple[int, int, int]
    sky: tuple[tuple[int, int, int], tuple[int, int, int]]
    cloud: float
    noise: float
    seed: int
    trail: bool = False


def _polygon(pen: ImageDraw.ImageDraw, scale: float, points: Sequence[Point], shade: int) -> None:
    middle = pen.im.size[0] / 2
    pen.polygon([(middle + x * scale, middle + y * scale) for x, y in points], fill=(shade, 255))


def _bar(pen: ImageDraw.ImageDraw, scale: float, start: Point, end: Point, width: float, shade: int) -> None:
    middle = pen.im.size[0] / 2
    line = [(middle + x * scale, middle + y * scale) for x, y in (start, end)]
    pen.line(line, fill=(shade, 255), width=max(1, round(width * scale)))


def _disc(pen: ImageDraw.ImageDraw, scale: float, middle: Point, radii: Point, shade: int, alpha: int = 255) -> None:
    centre = pen.im.size[0] / 2
    x, y = centre + middle[0] * scale, centre + middle[1] * scale
    pen.ellipse(
        (x - radii[0] * scale, y - radii[1] * scale, x + radii[0] * scale, y + radii[1] * scale), (shade, alpha)
    )


def airplane(pen: ImageDraw.ImageDraw, scale: float, time: float) -> None:
    """An airliner from the side and below: fuselage, fin, two wings."""
    _disc(pen, scale, (0, 0), (0.5, 0.055), 235)
    _polygon(pen, scale, [(-0.5, 0.0), (-0.53, -0.2), (-0.46, -0.2), (-0.34, -0.03)], 190)  # the fin
    _polygon(pen, scale, [(-0.5, 0.0), (-0.56, 0.06), (-0.5, 0.06), (-0.38, 0.02)], 150)
    _polygon(pen, scale, [(0.08, 0.02), (-0.2, 0.24), (-0.28, 0.24), (-0.12, 0.02)], 150)  # the near wing
    _polygon(pen, scale, [(0.06, -0.03), (-0.1, -0.12), (-0.16, -0.12), (-0.08, -0.03)], 170)
    _disc(pen, scale, (-0.02, 0.11), (0.06, 0.03), 120)


def bird(pen: ImageDraw.ImageDraw, scale: float, time: float) -> None:
    """A bird whose wings beat 3.6 times a second."""
    lift = math.sin(2 * math.pi * 3.6 * time + 1.0)
    _disc(pen, scale, (0.0, 0.0), (0.2, 0.06), 60)
    _disc(pen, scale, (0.2, -0.02), (0.06, 0.045), 60)
    _polygon(pen, scale, [(-0.16, 0.0), (-0.36, -0.05), (-0.36, 0.06)], 60)
    for side in (-1, 1):
        tip = (-0.06 + 0.06 * side, -0.42 * lift * (1.0 if side < 0 else 0.75))
        elbow = (0.04 + 0.03 * side, tip[1] * 0.55 - 0.03)
        _polygon(pen, scale, [(0.12, -0.02), elbow, tip, (-0.1, elbow[1] * 0.7), (-0.1, 0.0)], 40 + 30 * (side > 0))


def drone(pen: ImageDraw.ImageDraw, scale: float, time: float) -> None:
    """A quadcopter: body, arms, legs, camera, and the blur of its rotors."""
    _polygon(pen, scale, [(-0.2, -0.07), (0.2, -0.07), (0.24, 0.05), (-0.24, 0.05)], 235)
    for side in (-1, 1):
        _bar(pen, scale, (0.18 * side, -0.03), (0.42 * side, -0.1), 0.055, 225)
        _bar(pen, scale, (0.12 * side, -0.04), (0.27 * side, -0.15), 0.045, 200)
        _bar(pen, scale, (0.42 * side, -0.17), (0.42 * side, -0.05), 0.06, 210)
        _bar(pen, scale, (0.16 * side, 0.04), (0.24 * side, 0.25), 0.035, 215)
        for x, y, phase in ((0.42, -0.18, 0.0), (0.27, -0.2, 1.1)):
            reach = 0.17 * abs(math.cos(31 * time + phase + side)) + 0.04
            _bar(pen, scale, (x * side - reach, y), (x * side + reach, y), 0.02, 150)
    _bar(pen, scale, (-0.26, 0.25), (0.26, 0.25), 0.03, 215)
    _disc(pen, scale, (0.0, 0.1), (0.07, 0.06), 90)


def helicopter(pen: ImageDraw.ImageDraw, scale: float, time: float) -> None:
    """A helicopter from the side: cabin, boom, fin, skids, main and tail rotor."""
    _disc(pen, scale, (0.14, 0.03), (0.23, 0.13), 120)
    _disc(pen, scale, (0.27, 0.01), (0.08, 0.07), 200)
    _polygon(pen, scale, [(0.0, -0.05), (-0.5, -0.06), (-0.5, -0.01), (0.0, 0.1)], 110)
    _polygon(pen, scale, [(-0.44, -0.04), (-0.55, -0.2), (-0.49, -0.2), (-0.38, -0.04)], 130)
    _polygon(pen, scale, [(0.02, -0.12), (0.2, -0.12), (0.24, -0.06), (-0.02, -0.06)], 100)
    _bar(pen, scale, (0.09, -0.2), (0.09, -0.1), 0.03, 60)
    turn = math.cos(2 * math.pi * 4.7 * time)
    _bar(pen, scale, (0.09 - 0.5 * turn, -0.2), (0.09 + 0.5 * turn, -0.21), 0.028, 60)
    _bar(pen, scale, (0.09 - 0.5 * (1 - abs(turn)), -0.2), (0.09 + 0.5 * (1 - abs(turn)), -0.2), 0.02, 80)
    spin = 2 * math.pi * 11 * time
    reach = (0.09 * math.cos(spin), 0.09 * math.sin(spin))
    _bar(pen, scale, (-0.51 - reach[0], -0.14 - reach[1]), (-0.51 + reach[0], -0.14 + reach[1]), 0.02, 70)
    for x in (0.04, 0.22):
        _bar(pen, scale, (x, 0.13), (x - 0.02, 0.2), 0.02, 60)
    _bar(pen, scale, (-0.08, 0.2), (0.32, 0.2), 0.025, 60)


def _across(start: Point, end: Point, sway: Point = (0.0, 0.0), turns: float = 1.0) -> Callable[[float], Point]:
    """A path from one place to another that sways about the straight line."""

    def place(share: float) -> Point:
        swing = 2 * math.pi * turns * share
        return (
            start[0] + (end[0] - start[0]) * share + sway[0] * math.sin(swing),
            start[1] + (end[1] - start[1]) * share + sway[1] * math.sin(swing * 1.3),
        )

    return place


VISIBLE: Final = (640, 512)
INFRARED: Final = (320, 256)
BLUE: Final = ((62, 112, 182), (132, 172, 212))
PALE: Final = ((120, 156, 190), (172, 190, 204))
COLD: Final = ((58, 58, 58), (104, 104, 104))

SCENES: Final = (
    Scene(
        "airplane",
        VISIBLE,
        airplane,
        44,
        _across((0.2, 0.34), (0.62, 0.26)),
        (236, 238, 244),
        BLUE,
        cloud=26,
        noise=2.0,
        seed=1,
        trail=True,
    ),
    Scene(
        "bird",
        VISIBLE,
        bird,
        34,
        _across((0.84, 0.3), (0.4, 0.46), (0.01, 0.03), 2),
        (150, 140, 130),
        BLUE,
        cloud=22,
        noise=2.0,
        seed=2,
    ),
    Scene(
        "drone",
        VISIBLE,
        drone,
        40,
        _across((0.24, 0.62), (0.36, 0.3), (0.03, 0.02), 1.5),
        (245, 246, 250),
        BLUE,
        cloud=20,
        noise=2.0,
        seed=3,
    ),
    Scene(
        "helicopter",
        VISIBLE,
        helicopter,
        46,
        _across((0.8, 0.56), (0.62, 0.34)),
        (130, 60, 60),
        PALE,
        cloud=16,
        noise=2.5,
        seed=4,
    ),
    Scene(
        "airplane_infrared",
        INFRARED,
        airplane,
        26,
        _across((0.2, 0.6), (0.7, 0.4)),
        (250, 250, 250),
        COLD,
        cloud=14,
        noise=4.0,
        seed=5,
    ),
    Scene(
        "drone_infrared",
        INFRARED,
        drone,
        24,
        _across((0.7, 0.3), (0.55, 0.62), (0.03, 0.02)),
        (250, 250, 250),
        COLD,
        cloud=10,
        noise=3.0,
        seed=6,
    ),
)


def clouds(width: int, height: int, random: np.random.Generator) -> Picture:
    """Clouds without an edge to the left and right, -1 to 1: noise of several sizes, wider than high."""
    total, weight = np.zeros((height, width), np.float32), 1.0
    for cells in (2, 4, 8, 16, 32):
        grid = random.normal(size=(cells, cells)).astype(np.float32)
        wide = np.concatenate([grid, grid, grid], axis=1)
        layer = Image.fromarray(wide).resize((3 * width, height), Image.Resampling.BICUBIC)
        total += weight * np.asarray(layer)[:, width : 2 * width]
        weight *= 0.5
    return np.clip(total / 2, -1, 1)[..., None].astype(np.float32)


def sprite(scene: Scene, time: float, offset: Point) -> npt.NDArray[np.float32]:
    """The thing at a time, shifted by a fraction of a pixel: [n, n, 2], brightness 0..255 and coverage 0..1."""
    side = int(scene.length * 1.5) // 2 * 2
    canvas = Image.new("LA", (side * FINE, side * FINE), (0, 0))
    scene.draw(ImageDraw.Draw(canvas), scene.length * FINE, time)
    if scene.path(1.0)[0] < scene.path(0.0)[0]:
        canvas = canvas.transpose(Image.Transpose.FLIP_LEFT_RIGHT)  # it looks where it flies
    shift = (1, 0, -offset[0] * FINE, 0, 1, -offset[1] * FINE)
    moved = canvas.transform(canvas.size, Image.Transform.AFFINE, shift)
    pixels = np.asarray(moved, dtype=np.float32).reshape(side, FINE, side, FINE, 2)
    coverage = pixels[..., 1].mean(axis=(1, 3)) / 255
    light = (pixels[..., 0] * pixels[..., 1]).mean(axis=(1, 3)) / 255
    return np.stack([light / np.maximum(coverage, 1e-6), coverage], axis=-1)


def render(scene: Scene) -> list[npt.NDArray[np.uint8]]:
    """The frames of a scene, uint8 [height, width, 3]."""
    width, height = scene.size
    random = np.random.default_rng(scene.seed)
    top, bottom = (np.array(colour, np.float32) for colour in scene.sky)
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    ground, veil = top + (bottom - top) * slope, clouds(width, height, random)
    frames = []
    for number in range(RATE * SECONDS):
        share, time = number / (RATE * SECONDS), number / RATE
        picture = ground + scene.cloud * np.roll(veil, round(6 * time), axis=1) + np.zeros((1, width, 3), np.float32)
        if scene.trail:
            _add_trail(picture, scene, share)
        _add_thing(picture, scene, share, time)
        picture += random.normal(0, scene.noise, picture.shape if scene.size == VISIBLE else (height, width, 1))
        frames.append(np.clip(np.rint(picture), 0, 255).astype(np.uint8))
    return frames


def _add_thing(picture: Picture, scene: Scene, share: float, time: float) -> None:
    height, width = picture.shape[:2]
    x, y = (place * side for place, side in zip(scene.path(share), (width, height), strict=True))
    thing = sprite(scene, time, (x % 1, y % 1))
    side = len(thing)
    left, up = int(x) - side // 2, int(y) - side // 2
    part = picture[up : up + side, left : left + side]
    colour = np.array(scene.tone, np.float32) * thing[..., :1] / 255
    part += (colour - part) * thing[..., 1:]


def _add_trail(picture: Picture, scene: Scene, share: float) -> None:
    """A contrail behind the thing: it begins a length behind, widens and fades."""
    height, width = picture.shape[:2]
    (x, y), (x0, y0) = scene.path(share), scene.path(share - 0.05)
    ahead = np.array([(x - x0) * width, (y - y0) * height])
    ahead /= np.hypot(*ahead)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    dx, dy = columns - x * width, rows - y * height
    behind = -(dx * ahead[0] + dy * ahead[1]) - 0.45 * scene.length
    aside = np.abs(dx * ahead[1] - dy * ahead[0])
    spread = 1.2 + 0.012 * np.maximum(behind, 0)
    strength = np.where(behind > 0, np.exp(-((aside / spread) ** 2)) * 0.75 * np.exp(-np.maximum(behind, 0) / 160), 0)
    picture += (245 - picture) * strength[..., None].astype(np.float32)


def write(scene: Scene, folder: Path) -> Path:
    """Encode a scene as H.264 in MP4, a key frame every two seconds, the index in front."""
    path = folder / f"{scene.name}.mp4"
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "25", "g": str(2 * RATE), "threads": "1"})
        stream.width, stream.height = scene.size
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, RATE)
        for picture in render(scene):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def main(folder: Path) -> None:
    """Write every sample clip into a folder."""
    for scene in SCENES:
        path = write(scene, folder)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

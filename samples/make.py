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
        tone: colour of the thing's brightest parts; above 255, which an infrared camera cannot show, it blooms.
        sky: colours at the top and the bottom.
        cloud: strength of the clouds, grey levels.
        noise: of the camera, grey levels.
        blur: of the lens, standard deviation in pixels.
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
    blur: float
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
    """A bird in space, seen obliquely from below, that turns slowly; its wings beat 3.4 times a second.

    Its parts are drawn in three dimensions: x ahead, y to the left, z up.
    """
    yaw, tilt = 0.6 + 0.35 * math.sin(0.9 * time), 0.6

    def seen(x: float, y: float, z: float) -> Point:
        across, depth = x * math.cos(yaw) + y * math.sin(yaw), y * math.cos(yaw) - x * math.sin(yaw)
        return across, depth * math.sin(tilt) - z * math.cos(tilt)

    beat = 2 * math.pi * 3.4 * time
    arm, hand = 0.15 + 0.9 * math.sin(beat), 0.06 + 0.9 * math.sin(beat - 0.6)  # the tips follow the wrists
    for side in (-1, 1):
        wrist = (0.12, side * 0.21 * math.cos(arm), 0.21 * math.sin(arm))
        tip = (-0.02, wrist[1] + side * 0.29 * math.cos(hand), wrist[2] + 0.29 * math.sin(hand))
        wing = ((0.1, 0.0, 0.0), wrist, tip, (-0.12, wrist[1], wrist[2]), (-0.16, 0.0, 0.0))
        _polygon(pen, scale, [seen(*point) for point in wing], 125 if side < 0 else 95)
    _polygon(pen, scale, [seen(x, y, 0.0) for x, y in ((-0.2, 0.03), (-0.4, 0.1), (-0.4, -0.1), (-0.2, -0.03))], 95)
    outline = ((0.27, 0.01), (0.2, 0.05), (0.05, 0.07), (-0.26, 0.01), (0.05, -0.07), (0.2, -0.04))
    _polygon(pen, scale, [seen(x, 0.0, z) for x, z in outline], 95)  # the body from the side
    _polygon(pen, scale, [seen(x, y * 1.1, 0.0) for x, y in outline], 95)  # and from below


def drone(pen: ImageDraw.ImageDraw, scale: float, time: float) -> None:
    """A quadcopter: a light body and arms, dark motors, legs and camera, and the blur of its rotors."""
    _polygon(pen, scale, [(-0.2, -0.07), (0.2, -0.07), (0.24, 0.07), (-0.24, 0.07)], 235)
    for side in (-1, 1):
        _bar(pen, scale, (0.18 * side, -0.03), (0.42 * side, -0.1), 0.07, 235)
        _bar(pen, scale, (0.12 * side, -0.04), (0.27 * side, -0.15), 0.05, 150)
        _bar(pen, scale, (0.42 * side, -0.19), (0.42 * side, -0.03), 0.07, 40)
        _bar(pen, scale, (0.27 * side, -0.2), (0.27 * side, -0.1), 0.05, 40)
        _bar(pen, scale, (0.2 * side, 0.05), (0.26 * side, 0.24), 0.05, 60)
        for x, y, phase in ((0.42, -0.2, 0.0), (0.27, -0.22, 1.1)):
            reach = 0.17 * abs(math.cos(31 * time + phase + side)) + 0.04
            _bar(pen, scale, (x * side - reach, y), (x * side + reach, y), 0.025, 70)
    _disc(pen, scale, (0.0, 0.12), (0.08, 0.08), 30)


def helicopter(pen: ImageDraw.ImageDraw, scale: float, time: float) -> None:
    """A helicopter from the side and below: cabin, belly, boom, fin, skids, and four blades on a mast."""
    _polygon(pen, scale, [(0.02, -0.1), (-0.4, -0.07), (-0.46, -0.03), (-0.4, 0.0), (0.0, 0.14)], 75)
    _polygon(pen, scale, [(-0.36, -0.05), (-0.47, -0.22), (-0.41, -0.22), (-0.31, -0.05)], 75)
    _disc(pen, scale, (0.12, 0.03), (0.21, 0.16), 75)
    _polygon(pen, scale, [(-0.1, 0.05), (0.3, 0.06), (0.24, 0.15), (-0.02, 0.15)], 230)
    _disc(pen, scale, (0.24, 0.0), (0.08, 0.08), 30)
    _polygon(pen, scale, [(0.0, -0.17), (0.18, -0.17), (0.24, -0.09), (-0.04, -0.09)], 75)
    hub = (0.08, -0.25)
    _bar(pen, scale, hub, (0.08, -0.12), 0.05, 40)
    for blade in range(4):
        turn = 2 * math.pi * (4.7 * time + blade / 4)
        across, up = math.cos(turn), 0.2 * math.sin(turn) - 0.05 * abs(math.cos(turn))  # the tips bend upwards
        _bar(pen, scale, hub, (hub[0] + 0.46 * across, hub[1] + up), 0.035, 50)
    spin = 2 * math.pi * 11 * time
    reach = (0.09 * math.cos(spin), 0.09 * math.sin(spin))
    _bar(pen, scale, (-0.43 - reach[0], -0.14 - reach[1]), (-0.43 + reach[0], -0.14 + reach[1]), 0.025, 60)
    for x in (0.03, 0.2):
        _bar(pen, scale, (x, 0.16), (x - 0.02, 0.24), 0.025, 50)
    _bar(pen, scale, (-0.08, 0.24), (0.32, 0.24), 0.03, 50)


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
        blur=0.8,
        seed=1,
        trail=True,
    ),
    Scene(
        "bird",
        VISIBLE,
        bird,
        15,
        _across((0.84, 0.3), (0.4, 0.46), (0.01, 0.03), 2),
        (170, 160, 150),
        BLUE,
        cloud=22,
        noise=2.0,
        blur=0.8,
        seed=2,
    ),
    Scene(
        "drone",
        VISIBLE,
        drone,
        30,
        _across((0.24, 0.62), (0.36, 0.3), (0.03, 0.02), 1.5),
        (245, 246, 250),
        BLUE,
        cloud=20,
        noise=2.0,
        blur=0.8,
        seed=3,
    ),
    Scene(
        "helicopter",
        VISIBLE,
        helicopter,
        48,
        _across((0.8, 0.56), (0.62, 0.34)),
        (220, 95, 95),
        PALE,
        cloud=16,
        noise=2.5,
        blur=0.8,
        seed=4,
    ),
    Scene(
        "airplane_infrared",
        INFRARED,
        airplane,
        26,
        _across((0.2, 0.6), (0.7, 0.4)),
        (300, 300, 300),
        COLD,
        cloud=14,
        noise=4.0,
        blur=0.8,
        seed=5,
    ),
    Scene(
        "drone_infrared",
        INFRARED,
        drone,
        20,
        _across((0.7, 0.3), (0.55, 0.62), (0.03, 0.02)),
        (400, 400, 400),
        COLD,
        cloud=10,
        noise=3.0,
        blur=0.8,
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


def through_lens(picture: Picture, blur: float) -> Picture:
    """A picture blurred by a Gaussian of this standard deviation, in pixels."""
    reach = math.ceil(3 * blur)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / blur) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        edges = [(reach, reach) if axis == other else (0, 0) for other in range(3)]
        padded, length = np.pad(picture, edges, mode="edge"), picture.shape[axis]
        shifted = (np.take(padded, range(shift, shift + length), axis=axis) for shift in range(2 * reach + 1))
        picture = sum(weight * part for weight, part in zip(kernel, shifted, strict=True))
    return picture


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
        picture = through_lens(picture, scene.blur)
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

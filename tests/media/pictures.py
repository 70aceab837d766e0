"""Numbered pictures with coloured corners, and how to read both from pixels that were compressed and resized.

In the middle of a picture is a square code of six by four cells. Each bit of the number is a pair of cells, one black
and one white, so that a picture that shows no code, grey garbage for example, is told from every number.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

BITS = 12
"""A picture's number is below 4096."""

SMALLEST = 32
"""Shorter side in pixels below which lossy codecs make the code unreadable."""

CORNERS = ("red", "green", "blue", "yellow")
"""Clockwise from the upper left, as drawn."""

_COLOURS = {"red": (235, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 235), "yellow": (235, 220, 20)}
_COLUMNS, _ROWS = 6, 4
_CODE_SIDE = 0.625  # of the shorter side, so that the code survives a square cut from the middle
_CORNER_SIDE = 0.15
_LEAST_CONTRAST = 40


def numbered_picture(number: int, width: int = 64, height: int = 64) -> Pixels:
    """A picture that shows a number below 4096 and has coloured corners: ``uint8 [height, width, 3]``.

    The background is a texture that moves with the number, so that every frame of a clip holds new data.
    """
    if not 0 <= number < 1 << BITS:
        raise ValueError(f"the number of a picture must be in 0..{(1 << BITS) - 1}, got {number}")
    across, down = np.sin((np.arange(width) + 2 * number) / 5), np.cos((np.arange(height) - number) / 7)
    grey = 128 + 24 * across[None, :] * down[:, None]
    picture = np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)
    side = max(int(min(width, height) * _CORNER_SIDE), 2)
    for name, (rows, columns) in zip(CORNERS, _corner_slices(side), strict=True):
        picture[rows, columns] = _COLOURS[name]
    for bit, (first, second) in enumerate(_cells(height, width)):
        picture[first] = 255 * (number >> bit & 1)
        picture[second] = 255 * (1 - (number >> bit & 1))
    return picture


def read_number(pixels: Pixels, zoom: float = 1.0) -> int | None:
    """The number that a picture shows; None if it shows no readable code.

    Args:
        pixels: ``uint8 [H, W, 3]``, upright: the whole picture, or a part around its middle.
        zoom: how much larger the code is than in a whole picture of this size; for frames whose shorter side was
            resized to R and from which a square of C was cut, R / C.
    """
    grey = pixels.astype(np.float32).mean(axis=2)
    height, width = grey.shape
    number = 0
    for bit, (first, second) in enumerate(_cells(height, width, zoom, inner=True)):
        difference = grey[first].mean() - grey[second].mean()
        if abs(difference) < _LEAST_CONTRAST:
            return None
        number |= int(difference > 0) << bit
    return number


def read_corners(pixels: Pixels) -> tuple[str, ...]:
    """Colours of a whole picture's corners, clockwise from the upper left: how it was turned and mirrored."""
    side = max(int(min(pixels.shape[:2]) * _CORNER_SIDE / 2), 1)
    names, colours = list(_COLOURS), np.array(list(_COLOURS.values()), np.float32)
    seen = (pixels[part].reshape(-1, 3).astype(np.float32).mean(axis=0) for part in _corner_slices(side))
    return tuple(names[int(np.square(colours - colour).sum(axis=1).argmin())] for colour in seen)


def _corner_slices(side: int) -> list[tuple[slice, slice]]:
    near, far = slice(None, side), slice(-side, None)
    return [(near, near), (near, far), (far, far), (far, near)]


def _cells(
    height: int, width: int, zoom: float = 1.0, inner: bool = False
) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """For each bit its two cells; with ``inner``, the middle of each, away from what compression blurs."""
    side = _CODE_SIDE * min(height, width) * zoom
    rows = _spans((height - side) / 2, side, _ROWS, inner)
    columns = _spans((width - side) / 2, side, _COLUMNS, inner)
    pairs = [(row, columns[index], columns[index + 1]) for row in rows for index in range(0, _COLUMNS, 2)]
    return [((row, first), (row, second)) for row, first, second in pairs]


def _spans(begin: float, length: float, parts: int, inner: bool) -> list[slice]:
    size = length / parts
    margin = size / 4 if inner else 0
    edges = [(begin + part * size + margin, begin + (part + 1) * size - margin) for part in range(parts)]
    return [slice(round(first), max(round(last), round(first) + 1)) for first, last in edges]

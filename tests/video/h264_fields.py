"""Writes interlaced H.264 without an encoder: every macroblock is stored as it is (I_PCM).

No encoder that is at hand writes field pictures (PAFF), as broadcasts have them. Syntax: ITU-T H.264, 7.3.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import av
import numpy as np
from numpy.typing import NDArray

from adafocus.video.transform import Geometry
from tests.video.clips import GEOMETRY

SIDE = 64
_BLOCK = 16
_I_PCM, _I_SLICE = 25, 7
_NUMBER_BITS = 8
_RATE = 25

Coding = Literal["fields", "frame", "mbaff"]


@dataclass(frozen=True)
class Picture:
    """A frame of the stream: its coded pictures, one or two, each in Annex B.

    Attributes:
        number: drawn in the picture, and its place in display.
        units: an access unit for a frame, two for fields.
    """

    number: int
    units: tuple[bytes, ...]


class _Writer:
    """Bits, most significant first."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, value: int, count: int) -> None:
        """Writes u(n)."""
        self._bits.append(f"{value:0{count}b}" if count else "")

    def number(self, *values: int) -> None:
        """Writes ue(v)."""
        for value in values:
            self._bits.append(f"{value + 1:0{2 * (value + 1).bit_length() - 1}b}")

    def samples(self, data: bytes) -> None:
        """Writes whole bytes, aligned."""
        self._align()
        self._bits.append("".join(f"{byte:08b}" for byte in data))

    def unit(self, header: int) -> bytes:
        """Returns a NAL unit with its start code; adds the stop bit and emulation prevention."""
        self.put(1, 1)
        self._align()
        text = "".join(self._bits)
        payload = int(text, 2).to_bytes(len(text) // 8)
        safe, zeros = bytearray(), 0
        for byte in payload:
            if zeros == 2 and byte <= 3:
                safe.append(3)
                zeros = 0
            safe.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return b"\0\0\0\1" + bytes([header]) + bytes(safe)

    def _align(self) -> None:
        text = "".join(self._bits)
        self._bits = [text + "0" * (-len(text) % 8)]


def bar_number(pixels: NDArray[np.uint8], geometry: Geometry = GEOMETRY) -> int:
    """The number that a frame of such a stream shows, after resizing and cropping."""
    margin = (geometry.resize - geometry.crop) // 2
    bar = geometry.resize // _NUMBER_BITS
    bars = [pixels[:, max(bit * bar - margin, 0) : (bit + 1) * bar - margin].mean() for bit in range(_NUMBER_BITS)]
    return sum(1 << bit for bit, mean in enumerate(bars) if mean > 127)


def field_stream(
    codings: Sequence[Coding], numbers: Sequence[int] | None = None, key_every: int = 1000
) -> list[Picture]:
    """Codes pictures whose vertical bars are the bits of their numbers, the lowest first; `bar_number` reads them.

    Args:
        codings: of each picture, in decode order: two fields, a frame, or a frame whose macroblock pairs are fields.
        numbers: what each shows, and its place in display; as in decoding if omitted.
        key_every: pictures from one IDR picture to the next; each IDR picture is shown before those that follow.
    """
    shown = range(len(codings)) if numbers is None else numbers
    pictures, first = [], 0
    for place, (number, coding) in enumerate(zip(shown, codings, strict=True)):
        since_key = place % key_every
        first = first if since_key else number
        head = b"" if since_key else _parameter_sets()
        draft = _Draft(number, since_key, 2 * (number - first))
        units = [head + _DELIMITER + draft.slice("top" if coding == "fields" else coding)]
        if coding == "fields":
            units.append(_DELIMITER + draft.slice("bottom"))
        pictures.append(Picture(number, tuple(units)))
    return pictures


def mux_fields(pictures: Sequence[Picture], container: str, *, together: bool = False) -> bytes:
    """Stores coded pictures in a container.

    Args:
        pictures: in decode order.
        container: FFmpeg's name of a muxer.
        together: both fields of a frame go into one packet; otherwise each has a time of its own, half a frame apart.
    """
    buffer = io.BytesIO()
    key_head = _parameter_sets()
    raw = b"".join(unit for picture in pictures for unit in picture.units)
    with (
        av.open(io.BytesIO(raw), format="h264") as template,
        av.open(buffer, "w", format=container) as output,
    ):
        stream = output.add_stream_from_template(template.streams.video[0])
        delay = max(place - picture.number for place, picture in enumerate(pictures))
        for place, picture in enumerate(pictures):
            units = (b"".join(picture.units),) if together else picture.units
            for second, unit in enumerate(units):
                packet = av.Packet(unit)
                packet.time_base, packet.stream = Fraction(1, 2 * _RATE), stream
                packet.is_keyframe = unit.startswith(key_head)
                packet.pts, packet.dts = 2 * (picture.number + delay) + second, 2 * place + second
                packet.duration = 2 // len(units)
                output.mux(packet)
    return buffer.getvalue()


@dataclass(frozen=True)
class _Draft:
    """A picture to be coded."""

    number: int
    since_key: int
    count: int

    def slice(self, structure: Literal["top", "bottom", "frame", "mbaff"]) -> bytes:
        """The only slice of a frame or a field."""
        is_field = structure in ("top", "bottom")
        key = not self.since_key and structure != "bottom"
        bits = _Writer()
        bits.number(0, _I_SLICE, 0)
        bits.put(self.since_key % (1 << _NUMBER_BITS), _NUMBER_BITS)
        bits.put(is_field, 1)
        if is_field:
            bits.put(structure == "bottom", 1)
        if key:
            bits.number(0)
        bits.put((self.count + (structure == "bottom")) % (1 << _NUMBER_BITS), _NUMBER_BITS)
        bits.put(0, 2 if key else 1)
        bits.number(0, 1)
        self._macroblocks(bits, structure)
        return bits.unit(0x65 if key else 0x61)

    def _macroblocks(self, bits: _Writer, structure: str) -> None:
        """The picture's bars: each field shows the same, so that rows need not be told apart."""
        luma = np.array([235 if self.number >> bit & 1 else 16 for bit in range(8)], dtype=np.uint8)
        row = np.repeat(luma, SIDE // 8)
        rows = SIDE // _BLOCK // (2 if structure in ("top", "bottom") else 1)
        paired = structure in ("mbaff", "frame")
        # In a sequence that permits it, a frame is coded in pairs of macroblocks, one above the other.
        for number in range(rows * SIDE // _BLOCK):
            column = number // 2 % (SIDE // _BLOCK) if paired else number % (SIDE // _BLOCK)
            if paired and number % 2 == 0:
                bits.put(structure == "mbaff", 1)
            bits.number(_I_PCM)
            block: NDArray[np.uint8] = np.tile(row[column * _BLOCK : (column + 1) * _BLOCK], (_BLOCK, 1))
            bits.samples(block.tobytes() + bytes([128]) * (_BLOCK * _BLOCK // 2))


_DELIMITER = b"\0\0\0\1\x09\xf0"


def _parameter_sets() -> bytes:
    """A sequence of frames or fields of 64 × 64, with macroblock pairs; and the only picture parameter set."""
    bits = _Writer()
    bits.put(77, 8)
    bits.put(0, 8)
    bits.put(30, 8)
    bits.number(0, _NUMBER_BITS - 4, 0, _NUMBER_BITS - 4, 2)
    bits.put(0, 1)
    bits.number(SIDE // _BLOCK - 1, SIDE // _BLOCK // 2 - 1)
    bits.put(0b011, 3)  # fields permitted, pairs permitted, direct_8x8_inference
    bits.put(0b01, 2)  # no cropping; usability information
    bits.put(0b000000001, 9)  # nothing in it but the restriction of the bitstream
    bits.put(1, 1)
    bits.number(0, 0, 10, 10, 1, 2)
    sequence = bits.unit(0x67)
    bits = _Writer()
    bits.number(0, 0)
    bits.put(0, 2)
    bits.number(0, 0, 0)
    bits.put(0, 3)
    bits.number(0, 0, 0)
    bits.put(0b100, 3)
    return sequence + bits.unit(0x68)

"""Tells which H.264 packets can be decoded first, and which hold the second field of a frame. Pure.

ITU-T H.264: slice headers 7.3.3, recovery points D.2.8, complementary field pairs 3.30.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from adafocus.video.bits import Bits, UnreadableError
from adafocus.video.nal_units import Bytes, H264Units
from adafocus.video.parameter_sets import H264Sequence, h264_sequence

_SLICE, _PARTITION, _IDR, _SEI, _SPS, _PPS = 1, 2, 5, 6, 7, 8
_RECOVERY_POINT = 6
_INTRA_SLICES = (2, 4)
_HEAD_BYTES = 4096
# A slice header is read no further than its picture's number: it fits easily.
_SLICE_BYTES = 48
_MAX_PARAMETER_SETS = 256


@dataclass(frozen=True)
class H264Packet:
    """Facts about one packet.

    Attributes:
        starts: decoding can start here and gives undamaged pictures at once.
        second_field: it completes the frame that the packet before began.
    """

    starts: bool
    second_field: bool = False


@dataclass(frozen=True)
class _Field:
    """A packet's only field."""

    bottom: bool
    number: int


@dataclass(frozen=True)
class _Slice:
    intra: bool
    number: int
    bottom: bool | None  # None: of a frame


class H264Pictures:
    """Reads the packets of one stream in decode order.

    Attributes:
        may_be_fields: a picture may be a field: every packet must be read. Otherwise those that are marked as key
            frames are enough.
    """

    def __init__(self, extradata: bytes) -> None:
        """For a stream with this configuration."""
        self.may_be_fields = False
        self._units = H264Units()
        self._sequences: dict[int, H264Sequence] = {}
        self._sequence_of: dict[int, int] = {}
        self._open: _Field | None = None
        with contextlib.suppress(IndexError):
            self._learn(self._units.configure(extradata))

    def read(self, packet: Bytes) -> H264Packet:
        """Reads a packet. Where it cannot be parsed, the container's mark is taken for granted."""
        units = self._units.split(packet) if self.may_be_fields else self._units.split_head(packet, _HEAD_BYTES)
        self._learn(units)
        slices = list(self._slices(units))
        second = False
        if self.may_be_fields:
            field = _only_field(slices)
            second = field is not None and self._open is not None and self._completes(self._open, field)
            self._open = None if second else field
        return H264Packet(starts=_starts(units, slices), second_field=second)

    def _completes(self, first: _Field, second: _Field) -> bool:
        return first.bottom != second.bottom and first.number == second.number

    def _learn(self, units: Sequence[Bytes]) -> None:
        for unit in units:
            kind = unit[0] & 31
            try:
                if kind == _SPS:
                    sequence = h264_sequence(bytes(unit[1:_HEAD_BYTES]))
                    self._sequences[sequence.identifier] = sequence
                    self.may_be_fields = self.may_be_fields or not sequence.frames_only
                elif kind == _PPS:
                    bits = Bits(bytes(unit[1:_SLICE_BYTES]))
                    picture = bits.number()
                    if picture < _MAX_PARAMETER_SETS:
                        self._sequence_of[picture] = bits.number()
            except UnreadableError:
                continue

    def _slices(self, units: Sequence[Bytes]) -> Iterator[_Slice]:
        """The slices that can be read."""
        for unit in units:
            if unit[0] & 31 in (_SLICE, _PARTITION, _IDR):
                try:
                    yield self._slice(Bits(bytes(unit[1:_SLICE_BYTES])))
                except (UnreadableError, KeyError):
                    continue

    def _slice(self, bits: Bits) -> _Slice:
        """Reads a slice header.

        Raises:
            UnreadableError: it ends too early.
            KeyError: its parameter sets are not known.
        """
        bits.number()
        kind = bits.number()
        sequence = self._sequences[self._sequence_of[bits.number()]]
        if sequence.planes:
            bits.take(2)
        number = bits.take(sequence.number_bits)
        is_field = not sequence.frames_only and bits.take(1)
        return _Slice(kind % 5 in _INTRA_SLICES, number, bool(bits.take(1)) if is_field else None)


def _only_field(slices: Sequence[_Slice]) -> _Field | None:
    """The field that all of a packet's slices are of; ``None`` if it holds a frame, or both fields of one."""
    parities = {each.bottom for each in slices}
    if len(parities) != 1 or slices[0].bottom is None:
        return None
    return _Field(slices[0].bottom, slices[0].number)


def _starts(units: Sequence[Bytes], slices: Sequence[_Slice]) -> bool:
    """Return True if a packet marked as a key frame is an IDR picture or a recovery point where nothing is missing.

    After a recovery point that counts frames, those are damaged where the refresh has not passed yet.
    """
    kinds = {unit[0] & 31 for unit in units}
    if _IDR in kinds or not slices:
        return True
    for unit in units:
        if unit[0] & 31 == _SEI and (missing := _recovery_frames(bytes(unit[1:]))) is not None:
            return missing == 0
    return slices[0].intra


def _recovery_frames(payload: bytes) -> int | None:
    """The frames until a recovery point's pictures are undamaged; ``None`` if the message is another one."""
    data, place = payload.replace(b"\0\0\3", b"\0\0"), 0
    while place + 2 <= len(data):
        kind, place = _extended(data, place)
        size, place = _extended(data, place)
        if kind == _RECOVERY_POINT:
            try:
                return Bits(data[place : place + size]).number()
            except UnreadableError:
                return None
        place += size
    return None


def _extended(data: bytes, place: int) -> tuple[int, int]:
    """A number in bytes of 255 and a last smaller one, and the place behind it."""
    value = 0
    while place < len(data) and data[place] == 255:
        value, place = value + 255, place + 1
    return value + (data[place] if place < len(data) else 0), place + 1

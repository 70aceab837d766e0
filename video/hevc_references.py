"""Counts the pictures that each HEVC packet keeps in the decoder's memory. Pure; ITU-T H.265 7.3.2.2, 7.3.6, 7.3.7.

A sequence parameter set promises how many pictures the decoder must buffer, but a decoder keeps every picture that a
slice header lists, and makes up those that are missing. The promise bounds memory only where each list is checked.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from adafocus.video.bits import Bits, UnreadableError, at_most
from adafocus.video.nal_units import Bytes, HevcUnits
from adafocus.video.parameter_sets import HevcSequence, hevc_sequence

_SPS, _PPS = 33, 34
_IDR = (19, 20)
_IRAP = range(16, 24)
_SLICES = range(32)
_MAX_SETS, _MAX_LONG_TERM, _MAX_REFERENCES = 64, 32, 16
_SLICE_BYTES, _SET_BYTES = 512, 4096


@dataclass(frozen=True)
class _Sequence:
    head: HevcSequence
    sets: tuple[tuple[int, ...], ...]
    long_term: bool
    long_term_known: int


@dataclass(frozen=True)
class _Picture:
    sequence: int
    output_flag: bool
    extra_bits: int


class HevcReferences:
    """Reads the packets of one stream in decode order.

    Attributes:
        buffered: pictures that the decoder keeps, the one being decoded included, by the greatest promise so far;
            ``None`` before there is one.
    """

    def __init__(self, extradata: bytes) -> None:
        """For a stream with this configuration."""
        self.buffered: int | None = None
        self._units = HevcUnits()
        self._sequences: dict[int, _Sequence] = {}
        self._pictures: dict[int, _Picture] = {}
        with contextlib.suppress(IndexError, UnreadableError, KeyError):
            for unit in self._units.configure(extradata):
                self._read(unit)

    def read(self, packet: Bytes) -> int:
        """Returns the most pictures that a slice of the packet refers to, now or later; the packet's own not counted.

        Raises:
            UnreadableError: that cannot be told.
        """
        units = self._units.split(packet)
        if not units:
            raise UnreadableError
        try:
            return max(self._read(unit) for unit in units)
        except KeyError as error:
            raise UnreadableError from error

    def _read(self, unit: Bytes) -> int:
        kind, layer = unit[0] >> 1 & 63, (unit[0] & 1) << 5 | unit[1] >> 3
        if layer:
            return 0
        if kind == _SPS:
            sequence = _sequence(Bits(bytes(unit[2:_SET_BYTES])))
            self._sequences[sequence.head.identifier] = sequence
            self.buffered = max(self.buffered or 0, sequence.head.buffered)
        elif kind == _PPS:
            bits = Bits(bytes(unit[2:_SLICE_BYTES]))
            identifier = at_most(bits.number(), _MAX_SETS)
            sequence_id = bits.number()
            bits.take(1)
            self._pictures[identifier] = _Picture(sequence_id, bool(bits.take(1)), bits.take(3))
        elif kind in _SLICES:
            return self._slice(kind, Bits(bytes(unit[2:_SLICE_BYTES])))
        return 0

    def _slice(self, kind: int, bits: Bits) -> int:
        """Pictures that a slice header lists.

        Raises:
            UnreadableError: it ends too early, or lists more than the format permits.
            KeyError: its parameter sets are not known.
        """
        first = bits.take(1)
        if kind in _IRAP:
            bits.take(1)
        picture = self._pictures[bits.number()]
        sequence = self._sequences[picture.sequence]
        if not first or kind in _IDR:
            return 0  # all slices of a picture have one list; an IDR picture has none
        bits.take(picture.extra_bits)
        bits.number()
        if picture.output_flag:
            bits.take(1)
        if sequence.head.planes:
            bits.take(2)
        bits.take(sequence.head.count_bits)
        count = len(_slice_set(bits, sequence.sets))
        if sequence.long_term:
            count += bits.number() if sequence.long_term_known else 0
            count += bits.number()
        return at_most(count, _MAX_REFERENCES)


def _slice_set(bits: Bits, sets: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    """The short-term reference picture set of a slice: one of the sequence's, or its own."""
    if not bits.take(1):
        return _reference_set(bits, sets, len(sets))
    chosen = bits.take((len(sets) - 1).bit_length()) if sets else 0
    if chosen >= len(sets):
        raise UnreadableError
    return sets[chosen]


def _sequence(bits: Bits) -> _Sequence:
    head = hevc_sequence(bits)
    bits.numbers(6)
    if bits.take(1) and bits.take(1):
        _skip_scaling_lists(bits)
    bits.take(2)
    if bits.take(1):
        bits.take(8)
        bits.numbers(2)
        bits.take(1)
    total = at_most(bits.number(), _MAX_SETS)
    sets: tuple[tuple[int, ...], ...] = ()
    for number in range(total):
        sets += (_reference_set(bits, sets, number, last=False),)
    known = 0
    long_term = bool(bits.take(1))
    if long_term:
        known = at_most(bits.number(), _MAX_LONG_TERM)
        for _ in range(known):
            bits.take(head.count_bits + 1)
    return _Sequence(head, sets, long_term, known)


def _reference_set(bits: Bits, sets: tuple[tuple[int, ...], ...], number: int, *, last: bool = True) -> tuple[int, ...]:
    """A short-term reference picture set, as distances in picture order count: the nearest before, then after.

    Args:
        bits: at its start.
        sets: those before it.
        number: its own.
        last: it is a slice's own set, which may be predicted from any of the sequence's.
    """
    if number and bits.take(1):
        back = at_most(bits.number(), number - 1) + 1 if last else 1
        sign = bits.take(1)
        shift = (1 - 2 * sign) * (bits.number() + 1)
        # used_by_curr_pic_flag, or else use_delta_flag
        return _sorted([each + shift for each in (*sets[number - back], 0) if bits.take(1) or bits.take(1)])
    before, after = at_most(bits.number(), _MAX_REFERENCES), at_most(bits.number(), _MAX_REFERENCES)
    distances: list[int] = []
    for count, direction in ((before, -1), (after, 1)):
        distance = 0
        for _ in range(count):
            distance += direction * (bits.number() + 1)
            bits.take(1)
            distances.append(distance)
    return _sorted(distances)


def _sorted(distances: list[int]) -> tuple[int, ...]:
    before = sorted((each for each in distances if each < 0), reverse=True)
    return (*before, *sorted(each for each in distances if each > 0))


def _skip_scaling_lists(bits: Bits) -> None:
    """H.265 7.3.4."""
    for size in range(4):
        for _ in range(0, 6, 3 if size == 3 else 1):
            if not bits.take(1):
                bits.number()
                continue
            bits.numbers(min(64, 1 << (4 + 2 * size)) + (size > 1))

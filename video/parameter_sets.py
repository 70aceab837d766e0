"""Parses sequence parameter sets of H.264 and HEVC. Pure; ITU-T H.264 7.3.2.1, H.265 7.3.2.2.

Only what this project needs is read. Anything unexpected raises `UnreadableError`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from adafocus.video.bits import Bits, UnreadableError, at_most

# Profiles of H.264 whose parameter set tells the chroma format and may hold scaling lists.
_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
_EXTENDED_SAR = 255
_MAX_POC_CYCLE, _MAX_CPB_COUNT = 255, 32
_MAX_SEQUENCE_ID = 31
_LEAST_NUMBER_BITS, _MAX_NUMBER_BITS = 4, 12
_MAX_BUFFERED = 16
# A stream's set is parsed for several purposes, and videos from one encoder have the same.
_REMEMBERED = 32


@dataclass(frozen=True)
class Ordering:
    """The fields of a sequence parameter set that govern the order of pictures.

    Attributes:
        whole_frames: every picture is a frame, none a field.
        reordered: most pictures that may precede another one in decoding and follow it in display; None if that is
            not said.
        top_layer: TemporalId of the highest sub-layer; 0 for H.264.
    """

    whole_frames: bool
    reordered: int | None
    top_layer: int = 0


@dataclass(frozen=True)
class H264Sequence:
    """The fields of a sequence parameter set that are needed to read headers of H.264 slices.

    Attributes:
        identifier: seq_parameter_set_id.
        number_bits: length of frame_num.
        planes: separate_colour_plane_flag.
        gaps: gaps_in_frame_num_value_allowed_flag.
        frames_only: frame_mbs_only_flag; if not set, pictures may be fields.
    """

    identifier: int
    number_bits: int
    planes: bool
    gaps: bool
    frames_only: bool


@dataclass(frozen=True)
class HevcSequence:
    """The fields of a sequence parameter set that are needed to read headers of HEVC slices, and its promises.

    Attributes:
        identifier: sps_seq_parameter_set_id.
        planes: separate_colour_plane_flag.
        count_bits: length of the picture order count in slice headers.
        buffered: pictures that the decoder keeps, the one being decoded included, at most.
        reordered: pictures that may precede another one in decoding and follow it in display, at most.
        top_layer: TemporalId of the highest sub-layer.
    """

    identifier: int
    planes: bool
    count_bits: int
    buffered: int
    reordered: int
    top_layer: int


@lru_cache(maxsize=_REMEMBERED)
def h264_ordering(payload: bytes) -> Ordering:
    """Parses a sequence parameter set, without its NAL unit header.

    Raises:
        UnreadableError: it cannot be parsed, or permits gaps in the numbering of frames.
    """
    bits = Bits(payload)
    sequence = _h264_sequence(bits)
    if sequence.gaps:  # a gap is filled with pictures that were never sent
        raise UnreadableError
    if not sequence.frames_only:
        return Ordering(whole_frames=False, reordered=None)
    bits.take(1)
    if bits.take(1):
        bits.numbers(4)
    return Ordering(whole_frames=True, reordered=_h264_reordered(bits) if bits.take(1) else None)


@lru_cache(maxsize=_REMEMBERED)
def h264_sequence(payload: bytes) -> H264Sequence:
    """Parses the first part of a sequence parameter set, without its NAL unit header.

    Raises:
        UnreadableError: it cannot be parsed.
    """
    return _h264_sequence(Bits(payload))


def _h264_sequence(bits: Bits) -> H264Sequence:
    profile = bits.take(8)
    bits.take(16)
    identifier = at_most(bits.number(), _MAX_SEQUENCE_ID)
    planes = profile in _HIGH_PROFILES and _skip_high_profile(bits)
    number_bits = at_most(bits.number(), _MAX_NUMBER_BITS) + _LEAST_NUMBER_BITS
    counting = bits.number()
    if counting == 0:
        bits.number()
    elif counting == 1:
        bits.take(1)
        bits.numbers(2)
        bits.numbers(at_most(bits.number(), _MAX_POC_CYCLE))
    bits.number()
    gaps = bool(bits.take(1))
    bits.numbers(2)
    return H264Sequence(identifier, number_bits, planes, gaps, frames_only=bool(bits.take(1)))


@lru_cache(maxsize=_REMEMBERED)
def hevc_ordering(payload: bytes) -> Ordering:
    """Parses a sequence parameter set, without its NAL unit header.

    Raises:
        UnreadableError: it cannot be parsed.
    """
    sequence = hevc_sequence(Bits(payload))
    return Ordering(whole_frames=True, reordered=sequence.reordered, top_layer=sequence.top_layer)


def hevc_sequence(bits: Bits) -> HevcSequence:
    """Parses the first part of a sequence parameter set, up to what it says of buffers.

    Raises:
        UnreadableError: it cannot be parsed.
    """
    bits.take(4)
    top = bits.take(3)
    bits.take(1)
    _skip_profile_tier_level(bits, top)
    identifier = bits.number()
    planes = bits.number() == 3 and bool(bits.take(1))
    bits.numbers(2)
    if bits.take(1):
        bits.numbers(4)
    bits.numbers(2)
    count_bits = at_most(bits.number(), _MAX_NUMBER_BITS) + _LEAST_NUMBER_BITS
    reordered = buffered = 0
    for _ in range(top + 1 if bits.take(1) else 1):
        buffered = max(buffered, bits.number() + 1)
        reordered = bits.number()
        bits.number()
    return HevcSequence(identifier, planes, count_bits, at_most(buffered, _MAX_BUFFERED), reordered, top)


def _skip_high_profile(bits: Bits) -> bool:
    """Returns whether colours are coded as pictures of their own."""
    chroma = bits.number()
    planes = chroma == 3 and bool(bits.take(1))
    bits.numbers(2)
    bits.take(1)
    if bits.take(1):
        for each in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _skip_scaling_list(bits, 16 if each < 6 else 64)
    return planes


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _h264_reordered(bits: Bits) -> int | None:
    """Reads the number of reordered frames at the end of the usability information (H.264 E.1.1), if it is there."""
    if bits.take(1) and bits.take(8) == _EXTENDED_SAR:
        bits.take(32)
    if bits.take(1):
        bits.take(1)
    if bits.take(1):
        bits.take(4)
        if bits.take(1):
            bits.take(24)
    if bits.take(1):
        bits.numbers(2)
    if bits.take(1):
        bits.take(65)
    buffered = 0
    for _ in range(2):
        if bits.take(1):
            buffered += 1
            _skip_buffering(bits)
    if buffered:
        bits.take(1)
    bits.take(1)
    if not bits.take(1):
        return None
    bits.take(1)
    bits.numbers(4)
    return bits.number()


def _skip_buffering(bits: Bits) -> None:
    """Skips the parameters of the hypothetical reference decoder (H.264 E.1.2)."""
    count = at_most(bits.number() + 1, _MAX_CPB_COUNT)
    bits.take(8)
    for _ in range(count):
        bits.numbers(2)
        bits.take(1)
    bits.take(20)


def _skip_profile_tier_level(bits: Bits, top: int) -> None:
    """Skips a profile_tier_level (H.265 7.3.3)."""
    bits.take(96)
    present = [(bits.take(1), bits.take(1)) for _ in range(top)]
    if top:
        bits.take(2 * (8 - top))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)

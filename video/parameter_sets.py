"""What an H.264 or HEVC sequence parameter set says of the order of pictures. Pure; ITU-T H.264 7.3.2.1, H.265 7.3.2.2.

Only what decides whether a picture may be left undecoded is read; anything unexpected counts as not knowing.
"""

from __future__ import annotations

from dataclasses import dataclass

# Profiles of H.264 whose parameter set tells the chroma format and may hold scaling lists.
_HIGH_PROFILES = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})
_EXTENDED_SAR = 255
_MAX_POC_CYCLE, _MAX_CPB_COUNT = 255, 32
_LONGEST_CODE = 32
_MAX_SEQUENCE_ID = 31
_LEAST_NUMBER_BITS, _MAX_NUMBER_BITS = 4, 12


class UnreadableError(Exception):
    """The bytes end too early, or hold a value that the format does not permit."""


@dataclass(frozen=True)
class Ordering:
    """What is known of a sequence.

    Attributes:
        whole_frames: every picture is a frame; none is a field.
        reordered: pictures that may precede another one in decoding and follow it in display, at most; None if the
            stream does not promise it.
        top_layer: TemporalId of the highest sub-layer; 0 for H.264.
    """

    whole_frames: bool
    reordered: int | None
    top_layer: int = 0


@dataclass(frozen=True)
class H264Sequence:
    """What the headers of H.264 slices need of their sequence parameter set.

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


class Bits:
    """Bits of a NAL unit's payload, most significant first."""

    def __init__(self, payload: bytes) -> None:
        """Of a payload from which the emulation prevention bytes have not been removed yet."""
        plain = payload.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(plain)
        self._left = 8 * len(plain)

    def take(self, count: int) -> int:
        """The next bits as a number, the format's u(n).

        Raises:
            UnreadableError: there are fewer.
        """
        if count > self._left:
            raise UnreadableError
        self._left -= count
        return self._value >> self._left & (1 << count) - 1

    def number(self) -> int:
        """The format's ue(v), an Exp-Golomb code.

        Raises:
            UnreadableError: there is none.
        """
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > _LONGEST_CODE:
                raise UnreadableError
        return (1 << zeros) - 1 + self.take(zeros)

    def numbers(self, count: int) -> None:
        """Passes over so many ue(v) or se(v), which are equally long."""
        for _ in range(count):
            self.number()

    def signed(self) -> int:
        """The format's se(v)."""
        code = self.number()
        return (code + 1) // 2 if code % 2 else -(code // 2)


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


def h264_sequence(payload: bytes) -> H264Sequence:
    """Parses the first part of a sequence parameter set, without its NAL unit header.

    Raises:
        UnreadableError: it cannot be parsed.
    """
    return _h264_sequence(Bits(payload))


def _h264_sequence(bits: Bits) -> H264Sequence:
    profile = bits.take(8)
    bits.take(16)
    identifier = _at_most(bits.number(), _MAX_SEQUENCE_ID)
    planes = profile in _HIGH_PROFILES and _pass_high_profile(bits)
    number_bits = _at_most(bits.number(), _MAX_NUMBER_BITS) + _LEAST_NUMBER_BITS
    counting = bits.number()
    if counting == 0:
        bits.number()
    elif counting == 1:
        bits.take(1)
        bits.numbers(2)
        bits.numbers(_at_most(bits.number(), _MAX_POC_CYCLE))
    bits.number()
    gaps = bool(bits.take(1))
    bits.numbers(2)
    return H264Sequence(identifier, number_bits, planes, gaps, frames_only=bool(bits.take(1)))


def hevc_ordering(payload: bytes) -> Ordering:
    """Of a sequence parameter set, without its NAL unit header.

    Raises:
        UnreadableError: it is none.
    """
    bits = Bits(payload)
    bits.take(4)
    top = bits.take(3)
    bits.take(1)
    _pass_profile_tier_level(bits, top)
    bits.number()
    if bits.number() == 3:
        bits.take(1)
    bits.numbers(2)
    if bits.take(1):
        bits.numbers(4)
    bits.numbers(3)
    reordered = 0
    for _ in range(top + 1 if bits.take(1) else 1):
        bits.number()
        reordered = bits.number()
        bits.number()
    return Ordering(whole_frames=True, reordered=reordered, top_layer=top)


def _pass_high_profile(bits: Bits) -> bool:
    """Returns whether colours are coded as pictures of their own."""
    chroma = bits.number()
    planes = chroma == 3 and bool(bits.take(1))
    bits.numbers(2)
    bits.take(1)
    if bits.take(1):
        for each in range(12 if chroma == 3 else 8):
            if bits.take(1):
                _pass_scaling_list(bits, 16 if each < 6 else 64)
    return planes


def _pass_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


def _h264_reordered(bits: Bits) -> int | None:
    """The promise at the end of the usability information (H.264 E.1.1), if it is given."""
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
            _pass_buffering(bits)
    if buffered:
        bits.take(1)
    bits.take(1)
    if not bits.take(1):
        return None
    bits.take(1)
    bits.numbers(4)
    return bits.number()


def _pass_buffering(bits: Bits) -> None:
    """Hypothetical reference decoder parameters (H.264 E.1.2)."""
    count = _at_most(bits.number() + 1, _MAX_CPB_COUNT)
    bits.take(8)
    for _ in range(count):
        bits.numbers(2)
        bits.take(1)
    bits.take(20)


def _pass_profile_tier_level(bits: Bits, top: int) -> None:
    """H.265 7.3.3."""
    bits.take(96)
    present = [(bits.take(1), bits.take(1)) for _ in range(top)]
    if top:
        bits.take(2 * (8 - top))
    for profile, level in present:
        bits.take(88 * profile + 8 * level)


def _at_most(value: int, most: int) -> int:
    if value > most:
        raise UnreadableError
    return value

"""Limits the size of pictures, and the memory that decoding them may take."""

from __future__ import annotations

import av
from av.video.format import VideoFormat

from adafocus.video.bits import UnreadableError
from adafocus.video.errors import TooManyPixels
from adafocus.video.hevc_references import HevcReferences
from adafocus.video.limits import MediaLimits
from adafocus.video.nal_units import Bytes

# Pictures that a decoder holds at most at once: the references that the format allows, those that wait to be shown,
# the one being decoded and the one being resized. H.264, HEVC and VVC share sixteen places between the first two.
_HELD_PICTURES = {
    "h264": 18,
    "hevc": 18,
    "vvc": 18,
    "vp9": 11,
    "av1": 11,
    "vp8": 6,
}
_HELD_BY_OTHERS = 5
_HELD_BY_INTRA = 3
# Beside those that an HEVC stream promises: the frame shown last and the one being resized.
_HELD_OUTSIDE = 2
# Motion vectors, block types and other tables that a decoder keeps with every inter-coded picture, bytes a pixel.
_TABLE_BYTES = 0.75
# The process's share that does not grow with the picture: demuxer, entropy tables, packets.
_BASE_BYTES = 64 * 1024**2
# Before the first frame a stream may not tell its format; eight bits with full chroma is then assumed.
_UNKNOWN_BITS = 24


class PictureGuard:
    """Checks the pictures of one stream against the limits: before decoding, each packet, and each frame."""

    def __init__(self, codec: str, intra_only: bool, extradata: bytes, limits: MediaLimits) -> None:
        """For a stream.

        Args:
            codec: FFmpeg's name of the format.
            intra_only: it has no pictures that refer to others.
            extradata: the decoder's configuration, from the container; may be empty.
            limits: what is permitted.
        """
        self._limits = limits
        self._most_held = _HELD_BY_INTRA if intra_only else _HELD_PICTURES.get(codec, _HELD_BY_OTHERS)
        self._tables = 0.0 if intra_only else _TABLE_BYTES
        self._references = HevcReferences(extradata) if codec == "hevc" else None
        self._on_promise = False
        self._passed: tuple[int, int, str | None] | None = None

    def memory_bytes(self, width: int, height: int, pix_fmt: str | None) -> int:
        """Estimates from above what decoding such pictures may need, provided that the stream keeps its promises."""
        return self._bytes(width, height, pix_fmt, self._held())

    def check(self, width: int, height: int, pix_fmt: str | None) -> None:
        """Passes a picture that is within the limits.

        Raises:
            TooManyPixels: it is not.
        """
        if (width, height, pix_fmt) == self._passed:
            return
        limits = self._limits
        if width * height > limits.max_pixels:
            raise TooManyPixels(
                f"the picture is {width}×{height} = {width * height} pixels; at most {limits.max_pixels} are permitted"
            )
        needed = self.memory_bytes(width, height, pix_fmt)
        if needed > limits.decode_memory_bytes:
            raise TooManyPixels(
                f"decoding {width}×{height} may need {needed} bytes; decode_memory_bytes permits "
                f"{limits.decode_memory_bytes}"
            )
        self._on_promise = self._bytes(width, height, pix_fmt, self._most_held) > limits.decode_memory_bytes
        self._passed = (width, height, pix_fmt)

    @property
    def reads(self) -> bool:
        """Whether packets must be read before they are decoded."""
        return self._on_promise

    def check_packet(self, packet: Bytes) -> None:
        """Passes a packet that keeps no more pictures in memory than was promised; reads none where any may.

        Raises:
            TooManyPixels: it keeps more, or that cannot be told.
        """
        if not self._on_promise or self._references is None or self._passed is None:
            return
        try:
            kept = self._references.read(packet)
        except UnreadableError:
            kept = self._most_held
        width, height, pix_fmt = self._passed
        needed = self._bytes(width, height, pix_fmt, max(self._held(), kept + 1 + _HELD_OUTSIDE))
        if needed > self._limits.decode_memory_bytes:
            raise TooManyPixels(
                f"decoding {width}×{height} needs {needed} bytes, because the video keeps up to {kept} pictures; "
                f"decode_memory_bytes permits {self._limits.decode_memory_bytes}"
            )

    def check_frame(self, frame: av.VideoFrame) -> None:
        """Checks a decoded frame as ``check`` does: a stream may change its size midway."""
        self.check(frame.width, frame.height, frame.format.name)

    def _held(self) -> int:
        promised = None if self._references is None else self._references.buffered
        return self._most_held if promised is None else min(self._most_held, promised + _HELD_OUTSIDE)

    def _bytes(self, width: int, height: int, pix_fmt: str | None, held: int) -> int:
        bits = VideoFormat(pix_fmt).padded_bits_per_pixel if pix_fmt else _UNKNOWN_BITS
        return _BASE_BYTES + round(width * height * (bits / 8 + self._tables) * held)

"""How large a picture may be, and how much memory it would take to decode it."""

from __future__ import annotations

import av
from av.video.format import VideoFormat

from video.errors import TooManyPixels
from video.limits import MediaLimits

# Frames that a decoder holds at most at once: the references the format allows, those that wait to be shown, the one
# being decoded and the one being resized. H.264, HEVC and VVC share sixteen places between the first two.
_HELD_FRAMES = {
    "h264": 18,
    "hevc": 18,
    "vvc": 18,
    "vp9": 11,
    "av1": 11,
    "vp8": 6,
}
_HELD_BY_OTHERS = 5
_HELD_BY_INTRA = 3
# Motion vectors, block types and other tables that a decoder keeps with every inter-coded picture, bytes a pixel.
_TABLE_BYTES = 0.75
# The process's share that does not grow with the picture: demuxer, entropy tables, packets.
_BASE_BYTES = 64 * 1024**2
# Before the first frame a stream may not tell its format; eight bits with full chroma is then assumed.
_UNKNOWN_BITS = 24


class PictureGuard:
    """The limits on a picture of one stream, checked before decoding and again on every frame."""

    def __init__(self, codec: str, intra_only: bool, limits: MediaLimits) -> None:
        self._limits = limits
        self._held = _HELD_BY_INTRA if intra_only else _HELD_FRAMES.get(codec, _HELD_BY_OTHERS)
        self._tables = 0.0 if intra_only else _TABLE_BYTES
        self._passed: tuple[int, int, str | None] | None = None

    def memory_bytes(self, width: int, height: int, pix_fmt: str | None) -> int:
        """What decoding such pictures may need, an upper estimate."""
        bits = VideoFormat(pix_fmt).padded_bits_per_pixel if pix_fmt else _UNKNOWN_BITS
        return _BASE_BYTES + round(width * height * (bits / 8 + self._tables) * self._held)

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
        self._passed = (width, height, pix_fmt)

    def check_frame(self, frame: av.VideoFrame) -> None:
        """``check`` for a decoded frame: a stream may change its size midway."""
        self.check(frame.width, frame.height, frame.format.name)

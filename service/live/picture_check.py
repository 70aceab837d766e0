"""Looks at the key picture of each window: is the camera blind, or does it show the same picture again and again?

It runs in the demuxer's sandbox. One picture of a window is decoded for it, at the least size that tells. It does
without numpy, which would take as much memory again in each of many such processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import av
from av.codec.context import ThreadType
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from adafocus.video.errors import FOREIGN_ERRORS

_WIDTH, _HEIGHT = 64, 36
_BRIGHT_SHARE = 0.98


@dataclass(frozen=True, slots=True)
class PictureReport:
    """What a key picture is like.

    Attributes:
        brightness: 0 to 255, which all but the brightest 2 % of the picture stay below; None: it cannot be decoded.
        change: mean difference from the picture of the window before, 0 to 255; None: there is none to compare with.
    """

    brightness: float | None = None
    change: float | None = None


@dataclass(slots=True)
class PictureCheck:
    """Compares the key pictures of one stream, one after the other.

    Args:
        codec: name of the stream's codec.
        extradata: of the stream.
        max_pixels: a picture that has more is not decoded.
    """

    codec: str
    extradata: bytes | None
    max_pixels: int
    _decoder: VideoCodecContext = field(init=False)
    _reformatter: VideoReformatter = field(default_factory=VideoReformatter)
    _before: bytes | None = None

    def __post_init__(self) -> None:
        decoder = av.CodecContext.create(self.codec, "r")
        if not isinstance(decoder, VideoCodecContext):
            raise ValueError("the codec is none of video")
        decoder.extradata = self.extradata
        decoder.thread_type = ThreadType.NONE
        decoder.thread_count = 1
        decoder.options = {"max_pixels": str(self.max_pixels)}
        self._decoder = decoder

    def see(self, data: bytes) -> PictureReport:
        """Decode a key picture and compare it with the one before."""
        try:
            frames = [*self._decoder.decode(av.Packet(data)), *self._decoder.decode(None)]
            self._decoder.flush_buffers()
            pixels = self._small(frames)
        except (*FOREIGN_ERRORS, MemoryError):
            return PictureReport()
        if pixels is None:
            return PictureReport()
        before, self._before = self._before, pixels
        bright = sorted(pixels)[int(_BRIGHT_SHARE * len(pixels))]
        if before is None:
            return PictureReport(float(bright))
        differences = sum(abs(now - then) for now, then in zip(pixels, before, strict=True))
        return PictureReport(float(bright), differences / len(pixels))

    def _small(self, frames: Sequence[av.VideoFrame]) -> bytes | None:
        """The brightness of some points of a picture. They are not averaged, which would hide a sensor's noise."""
        if not frames:
            return None
        small = self._reformatter.reformat(frames[0], _WIDTH, _HEIGHT, "gray", interpolation="POINT", threads=1)
        lines, plane = bytes(small.planes[0]), small.planes[0].line_size  # a line may be padded
        return b"".join(lines[at * plane : at * plane + _WIDTH] for at in range(_HEIGHT))

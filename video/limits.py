"""The limits on videos."""

from __future__ import annotations

from dataclasses import dataclass

CONTAINERS = ("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "gif")
"""FFmpeg demuxer names. ``mov`` reads MP4, MOV, 3GP; ``matroska`` reads WebM; ``mpeg`` is MPEG-PS; ``asf`` is WMV."""

CODECS = (
    "h264",
    "hevc",
    "vvc",
    "vp8",
    "vp9",
    "av1",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "mjpeg",
    "prores",
    "dnxhd",
    "ffv1",
    "theora",
    "wmv1",
    "wmv2",
    "wmv3",
    "vc1",
    "flv1",
    "gif",
    "h263",
    "msmpeg4v2",
    "msmpeg4v3",
    "dvvideo",
    "rawvideo",
)
"""FFmpeg codec names: the name of the format, not of a decoder (``av1``, whichever decoder reads it)."""


@dataclass(frozen=True)
class MediaLimits:
    """Limits on one video.

    Attributes:
        max_pixels: width × height of a picture, at most.
        max_seconds: duration, at most; without the leaps of a clock.
        max_frames: packets of the video stream, at most; bounds the index if the times are wrong.
        decode_memory_bytes: memory that decoding may need, by an estimate made before the first frame is decoded.
        max_decoded_pixels: pixels of all pictures of one video that are decoded, at most.
        max_decode_seconds: processor time for opening and decoding one video, at most.
        containers: FFmpeg demuxer names that may be opened.
        codecs: FFmpeg codec names that may be decoded.
    """

    max_pixels: int = 8192 * 4320
    max_seconds: float = 3600.0
    max_frames: int = 1_000_000
    decode_memory_bytes: int = 1024**3
    max_decoded_pixels: int = 20_000_000_000
    max_decode_seconds: float = 20.0
    containers: tuple[str, ...] = CONTAINERS
    codecs: tuple[str, ...] = CODECS

    def __post_init__(self) -> None:
        for name in (
            "max_pixels",
            "max_seconds",
            "max_frames",
            "decode_memory_bytes",
            "max_decoded_pixels",
            "max_decode_seconds",
        ):
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")
        for name in ("containers", "codecs"):
            if not getattr(self, name):
                raise ValueError(f"{name} must name at least one")

"""From anonymous bytes to an open, checked video, or a typed refusal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av

from video.cursor import Cursor, Packets
from video.errors import TooLong, Undecodable
from video.frame_index import FrameIndex
from video.index import read_index
from video.limits import MediaLimits
from video.mp4_index import announced_index
from video.source import Reader, Source
from video.transform import clockwise_rotation

_RATE_TOLERANCE = 0.1


@dataclass(frozen=True)
class VideoInfo:
    """What a video is, as a user would see it.

    Attributes:
        container: mp4, mov, 3gp, matroska, webm, avi, mpegts, mpeg, flv, asf, ogg or gif.
        codec: FFmpeg's name of the format: h264, hevc, vp9, av1, …
        width: pixels of a frame as displayed, rotation applied. Pixels count as square: a sample aspect ratio is
            applied neither here nor to frames, because the frames of the published training data were not either.
        height: likewise.
        fps: mean frames per second; ``None`` if nothing tells it.
        duration_s: by the frames' times where they can be believed, else as declared; ``None`` if unknown.
        frames: frames in the file, counted.
        rotation: degrees by which frames are turned clockwise to be displayed: 0, 90, 180 or 270.
    """

    container: str
    codec: str
    width: int
    height: int
    fps: float | None
    duration_s: float | None
    frames: int | None
    rotation: int


class OpenVideo:
    """A video that passed every check and gave its first frame. For one ``FrameStream``.

    Attributes:
        info: what it is.
        index: its packets and frames.
        cursor: the decoder, past the first frame.
        ahead: the frames that came out on the way there.
        time_base: seconds per unit of the index's times.
    """

    def __init__(
        self, info: VideoInfo, index: FrameIndex, cursor: Cursor, ahead: list[av.VideoFrame], time_base: Fraction
    ) -> None:
        self.info = info
        self.index = index
        self.cursor = cursor
        self.ahead = ahead
        self.time_base = time_base


@contextmanager
def open_video(reader: Reader, limits: MediaLimits | None = None) -> Iterator[OpenVideo]:
    """Opens, checks and indexes a video, and decodes its first frame. The container is always closed at the end.

    Of a file that announces its frames ahead of them no more is read than that takes; of any other, everything.

    Args:
        reader: the bytes of the file, seekable; read from its start, never closed.
        limits: what is permitted; the defaults of ``MediaLimits`` if omitted.

    Raises:
        UnsupportedMedia: not a video, or a container or codec that is not permitted.
        NoVideoStream: no moving picture in it.
        Undecodable: of the right kind, but cut, encrypted or damaged so that no frame can be had.
        TooManyPixels: a picture over ``max_pixels``, or over ``decode_memory_bytes`` by estimate.
        TooLong: over ``max_seconds`` or ``max_frames`` by the index.
    """
    limits = limits or MediaLimits()
    source = Source(reader, limits)
    try:
        yield _probe(source, reader, limits)
    finally:
        source.close()


def _probe(source: Source, reader: Reader, limits: MediaLimits) -> OpenVideo:
    time_base = source.stream.time_base
    if time_base is None:
        raise Undecodable("the video has no time base")
    index = announced_index(reader, source.stream, time_base, source.codec, limits)
    if index is None:
        index = read_index(Packets(source.container, source.stream), time_base, source.codec, limits)
    fps, seconds = _rate_and_duration(source, index)
    if seconds is not None and seconds > limits.max_seconds:
        raise TooLong(f"the video is {seconds:g} s long; at most {limits.max_seconds:g} s are permitted")
    cursor = Cursor(source, index)
    ahead = _first_frames(cursor, limits)
    first = ahead[0]
    rotation = clockwise_rotation(first)
    turned = rotation in (90, 270)
    info = VideoInfo(
        container=source.kind,
        codec=source.codec,
        width=first.height if turned else first.width,
        height=first.width if turned else first.height,
        fps=fps,
        duration_s=seconds,
        frames=index.frames,
        rotation=rotation,
    )
    return OpenVideo(info, index, cursor, ahead, time_base)


def _first_frames(cursor: Cursor, limits: MediaLimits) -> list[av.VideoFrame]:
    """Decodes up to the first frame."""
    while not cursor.drained:
        frames = cursor.step().frames
        if frames:
            return frames
    # Some decoders refuse a picture over max_pixels before they tell its size.
    raise Undecodable(
        f"not one frame of the video can be decoded; it is damaged, or has pictures of over {limits.max_pixels} pixels"
    )


def _rate_and_duration(source: Source, index: FrameIndex) -> tuple[float | None, float | None]:
    """Frames per second and seconds, from the index where it is timed, else as the container declares them."""
    stream = source.stream
    declared = stream.average_rate or stream.guessed_rate
    fps = float(declared) if declared and declared > 0 else None
    if index.seconds:
        measured = index.frames / index.seconds
        # The declared rate is the rounder number, where it is not a lie.
        honest = fps is not None and abs(fps - measured) <= _RATE_TOLERANCE * measured
        return fps if honest else measured, index.seconds
    if fps:
        return fps, index.frames / fps
    duration = source.container.duration
    return None, duration / av.time_base if duration and duration > 0 else None

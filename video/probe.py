"""Opens a video: checks it against the limits, indexes it and decodes its first frame."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import av

from adafocus.video.cursor import Cursor, Packets
from adafocus.video.errors import EmptyStream, TooLong, Undecodable
from adafocus.video.frame_index import FrameIndex
from adafocus.video.index import read_index
from adafocus.video.limits import MediaLimits
from adafocus.video.mp4_index import announced_index
from adafocus.video.source import Reader, Source
from adafocus.video.transform import Orientation, orientation

MAX_FRAMES_PER_SECOND = 1e6
"""A higher rate comes from times that lie; the fastest cameras take a few hundred thousand pictures a second."""

_RATE_TOLERANCE = 0.1


@dataclass(frozen=True)
class VideoInfo:
    """The properties of a video as it is displayed.

    Attributes:
        container: mp4, mov, 3gp, matroska, webm, avi, mpegts, mpeg, flv, asf, ogg or gif.
        codec: FFmpeg's name of the format: h264, hevc, vp9, av1, …
        width: pixels of a frame as displayed, after rotation. Pixels are taken as square: the sample aspect ratio is
            ignored here and in frames, as in the frames of the published training data.
        height: pixels, after rotation.
        fps: mean frames per second; ``None`` if nothing tells it.
        duration_s: from the first frame to the end of the last, by their times, or else as the container declares;
            ``None`` if unknown.
        frames: frames in the file, counted.
        rotation: degrees by which frames are turned clockwise to be displayed: 0, 90, 180 or 270. A mirrored video is
            mirrored after that.
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
    """A video that passed every check that needs no decoding. Serves one ``FrameStream``.

    Attributes:
        index: its packets and frames.
        cursor: the decoder; behind the first frame once `look` has decoded that.
        ahead: the frames that were decoded so far.
    """

    def __init__(
        self, source: Source, limits: MediaLimits, index: FrameIndex, fps: float | None, seconds: float | None
    ) -> None:
        self.index = index
        self.cursor = Cursor(source, index)
        self.ahead: Sequence[av.VideoFrame] = ()
        self._source = source
        self._limits = limits
        self._fps, self._seconds = fps, seconds
        self._announced = source.stream.width, source.stream.height
        self._info: VideoInfo | None = None

    @property
    def info(self) -> VideoInfo:
        """Its properties.

        Raises:
            ValueError: none of its frames has been decoded yet.
        """
        if self._info is None:
            raise ValueError("a frame must be decoded before the properties of a video are known")
        return self._info

    @property
    def pixels(self) -> int:
        """Pixels of a picture; before one has been decoded, as the header announces them, and 0 if it does not."""
        width, height = self._announced if self._info is None else (self._info.width, self._info.height)
        return width * height

    @property
    def looked_at(self) -> bool:
        """Whether a frame has been decoded, so that ``info`` is known."""
        return self._info is not None

    def look(self) -> None:
        """Decodes the first frame, which shows that the video can be decoded; begins again if anything was decoded.

        Raises:
            Undecodable: no frame can be decoded.
            TooManyPixels: a picture exceeds the limits.
        """
        if self.cursor.decoded:
            self._source.restart()
            self.cursor = Cursor(self._source, self.index)
        self.ahead = _first_frames(self.cursor, self._limits)
        first = self.ahead[0]
        self._describe(first.width, first.height, orientation(first))

    def is_like(self, width: int, height: int, turn: Orientation) -> bool:
        """Takes note of a decoded frame instead of the first one; False if the header announces another size."""
        if (width, height) != self._announced:
            return False
        self._describe(width, height, turn)
        return True

    def _describe(self, width: int, height: int, turn: Orientation) -> None:
        self._info = VideoInfo(
            container=self._source.kind,
            codec=self._source.codec,
            width=height if turn.swaps_sides else width,
            height=width if turn.swaps_sides else height,
            fps=self._fps,
            duration_s=self._seconds,
            frames=self.index.frames,
            rotation=turn.rotation,
        )


@contextmanager
def open_video(
    reader: Reader, limits: MediaLimits | None = None, *, ranged: bool = False, look: bool = True
) -> Iterator[OpenVideo]:
    """Opens, checks and indexes a video, and decodes its first frame. Closes the container at the end.

    If the header lists all packets, no more is read than that takes. Otherwise the whole file is read.

    Args:
        reader: the bytes of the file, seekable; read from the start, never closed.
        limits: what is permitted; the defaults of ``MediaLimits`` if omitted.
        ranged: reading is slow wherever it is, so as little as possible is read. The header's list of key frames is
            then believed without a look at the packets; where decoding cannot start at one, the file is scanned.
        look: the first frame is decoded. If not, the ``FrameStream`` does so where that is on its way or where the
            video proves to be damaged; ``info`` is there when it has returned a frame.

    Raises:
        UnsupportedMedia: this is not a video, or its container or codec is not permitted.
        NoVideoStream: the file holds no moving pictures.
        Undecodable: the video is cut, encrypted or damaged, and no frame can be decoded.
        TooManyPixels: a picture exceeds ``max_pixels``, or by estimate ``decode_memory_bytes``.
        TooLong: the video exceeds ``max_seconds`` or ``max_frames``.
    """
    limits = limits or MediaLimits()
    source = Source(reader, limits)
    try:
        video = _probe(source, reader, limits, ranged)
        if look:
            video.look()
        yield video
    finally:
        source.close()


def _probe(source: Source, reader: Reader, limits: MediaLimits, ranged: bool) -> OpenVideo:
    index = _index(source, reader, limits, ranged)
    fps, seconds = _rate_and_duration(source, index)
    if seconds is not None and seconds > limits.max_seconds:
        raise TooLong(f"the video is {seconds:g} s long; at most {limits.max_seconds:g} s are permitted")
    return OpenVideo(source, limits, index, fps, seconds)


def _index(source: Source, reader: Reader, limits: MediaLimits, ranged: bool) -> FrameIndex:
    """Indexes the first stream that holds frames."""
    while True:
        traits = source.traits
        index = announced_index(reader, source.stream, traits, limits, ranged=ranged)
        if index is not None:
            return index
        try:
            return read_index(Packets(source.container, source.stream), traits, limits)
        except EmptyStream:
            if not source.next_stream():
                raise


def _first_frames(cursor: Cursor, limits: MediaLimits) -> Sequence[av.VideoFrame]:
    """Decodes up to the first frame; returns the frames that came."""
    while not cursor.drained:
        frames = cursor.step().frames
        if frames:
            return frames
    # Some decoders reject a picture over max_pixels before they report its size.
    raise Undecodable(
        f"no frame of the video can be decoded: it is damaged, or a picture has more than {limits.max_pixels} pixels"
    )


def _rate_and_duration(source: Source, index: FrameIndex) -> tuple[float | None, float | None]:
    """Returns frames per second and seconds: from the times in the index, or else as the container declares them."""
    fps, seconds = _measured_or_declared(source, index)
    return _possible_rate(fps), seconds


def _possible_rate(fps: float | None) -> float | None:
    """Returns a rate that a video can have; ``None`` if its times or its header tell nonsense."""
    return fps if fps is not None and 0 < fps <= MAX_FRAMES_PER_SECOND else None


def _measured_or_declared(source: Source, index: FrameIndex) -> tuple[float | None, float | None]:
    stream = source.stream
    average, guessed = (
        _possible_rate(float(rate)) if rate else None for rate in (stream.average_rate, stream.guessed_rate)
    )
    declared = average or guessed
    if index.seconds:
        measured = index.frames / index.seconds
        # The declared rate is the rounder number; it is used if it is about right.
        plausible = declared is not None and abs(declared - measured) <= _RATE_TOLERANCE * measured
        return declared if plausible else measured, index.seconds
    duration = source.container.duration
    if not average and duration and duration > 0:
        return index.frames * av.time_base / duration, duration / av.time_base
    return (declared, index.frames / declared) if declared else (None, None)

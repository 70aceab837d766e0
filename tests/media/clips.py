"""Clips of numbered pictures in every container and codec that PyAV writes; the same call gives the same bytes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.stream import Disposition

from tests.media.pictures import Pixels, numbered_picture

Draw = Callable[[int, int, int], Pixels]
"""Number, width and height to a picture."""

_RANDOM_IDENTIFIERS = ("matroska", "webm")  # muxers that write them, unless they are told not to
_REPRODUCIBLE = {"threads": "1"}  # so that the bytes do not depend on the number of cores
_REPRODUCIBLE_BY_CODEC = {"libx264": {"mbtree": "0"}}  # x264's macroblock tree gives other bytes each time
_PIXEL_FORMATS = {"mjpeg": "yuvj420p", "gif": "rgb8", "png": "rgb24"}


@dataclass(frozen=True)
class VideoTrack:
    """One video stream.

    Attributes:
        frames: how many there are; they show ``first``, ``first`` + 1, and so on.
        codec: name of an encoder of FFmpeg.
        size: width and height in pixels.
        rate: frames per second.
        first: the number that the first frame shows.
        times: presentation time of each frame in units of 1 / ``clock`` seconds; by default one after the other.
        clock: ticks per second of ``times``; by default the rate.
        rotation: degrees of the display matrix, counter-clockwise, as PyAV has it.
        pix_fmt: by default the usual one of the codec.
        shape: width to height of a pixel; by default square.
        cover: it is an attached picture, as music files have, and no video.
        draw: makes a picture from a number, a width and a height.
        options: of the encoder.
    """

    frames: int
    codec: str = "libx264"
    size: tuple[int, int] = (64, 64)
    rate: int | Fraction = 25
    first: int = 0
    times: Sequence[int] | None = None
    clock: int | None = None
    rotation: int = 0
    pix_fmt: str | None = None
    shape: Fraction | None = None
    cover: bool = False
    draw: Draw = numbered_picture
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def tick(self) -> Fraction:
        """Seconds between two numbers of ``times``."""
        return 1 / Fraction(self.clock or self.rate)


@dataclass(frozen=True)
class AudioTrack:
    """One audio stream: a tone of 440 Hz."""

    seconds: float = 1.0
    codec: str = "aac"
    rate: int = 48000


Track = VideoTrack | AudioTrack


def make_file(container: str, *tracks: Track, **options: str) -> bytes:
    """A file of some streams, in this order.

    Args:
        container: name of a muxer of FFmpeg: mp4, mov, matroska, webm, mpegts, vob, avi, flv, asf, ogg, gif, …
        tracks: its streams.
        options: of the muxer, as ``movflags="faststart"``.
    """
    buffer = io.BytesIO()
    if container in _RANDOM_IDENTIFIERS:
        options = {"fflags": "+bitexact", **options}
    with _ordinary_priority(), av.open(buffer, "w", format=container, options=options) as output:
        writers = [
            _video(output, track) if isinstance(track, VideoTrack) else _audio(output, track) for track in tracks
        ]
        for packets in writers:
            for packet in packets:
                output.mux(packet)
    return buffer.getvalue()


def make_clip(
    frames: int,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    size: tuple[int, int] = (64, 64),
    rate: int = 25,
    rotation: int = 0,
    pix_fmt: str | None = None,
    times: Sequence[int] | None = None,
    clock: int | None = None,
    first: int = 0,
    **options: str,
) -> bytes:
    """A file of one video stream; the arguments are those of `VideoTrack`, and ``options`` the encoder's."""
    track = VideoTrack(
        frames,
        codec=codec,
        size=size,
        rate=rate,
        rotation=rotation,
        pix_fmt=pix_fmt,
        times=times,
        clock=clock,
        first=first,
        options=options,
    )
    return make_file(container, track)


@contextmanager
def _ordinary_priority() -> Iterator[None]:
    """Undo what libsvtav1 does where it may: it gives the calling thread real-time priority, and leaves it so.

    Every process that a test started afterwards would have it, too, and could not be put into a control group.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != policy:
            os.sched_setscheduler(0, policy, parameters)


def _writer(output: Any, track: Track) -> Iterator[Any]:
    return _video(output, track) if isinstance(track, VideoTrack) else _audio(output, track)


def _video(output: Any, track: VideoTrack) -> Iterator[Any]:
    options = {**_REPRODUCIBLE, **_REPRODUCIBLE_BY_CODEC.get(track.codec, {}), **track.options}
    stream = output.add_stream(track.codec, rate=track.rate, options=options)
    stream.width, stream.height = track.size
    stream.pix_fmt = track.pix_fmt or _PIXEL_FORMATS.get(track.codec, "yuv420p")
    stream.time_base = stream.codec_context.time_base = track.tick
    if track.shape:
        stream.sample_aspect_ratio = track.shape
    if track.rotation:
        stream.set_display_rotation(track.rotation)
    if track.cover:
        stream.disposition = Disposition.attached_pic
    return _encoded(stream, _pictures(track))


def _pictures(track: VideoTrack) -> Iterator[av.VideoFrame]:
    for number in range(track.frames):
        frame = av.VideoFrame.from_ndarray(track.draw(track.first + number, *track.size), format="rgb24")
        frame.pts, frame.time_base = (track.times[number] if track.times else number), track.tick
        yield frame


def _audio(output: Any, track: AudioTrack) -> Iterator[Any]:
    return _encoded(output.add_stream(track.codec, rate=track.rate), _tones(track))


def _tones(track: AudioTrack) -> Iterator[av.AudioFrame]:
    chunk = 1024
    for begin in range(0, int(track.seconds * track.rate), chunk):
        wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(begin, begin + chunk) / track.rate)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = track.rate, begin, Fraction(1, track.rate)
        yield frame


def _encoded(stream: Any, frames: Iterator[Any]) -> Iterator[Any]:
    for frame in frames:
        yield from stream.encode(frame)
    yield from stream.encode(None)

"""Clips made on the spot, of which every frame tells its number, and shorthands to read any clip."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from video.decoder import Frame, FrameStream
from video.errors import VideoError
from video.limits import MediaLimits
from video.probe import OpenVideo, VideoInfo, open_video
from video.sampler import visiting_order, wanted_frames
from video.transform import Geometry

FIXTURES = Path(__file__).parent.parent / "fixtures" / "video"
GEOMETRY = Geometry(resize=64, crop=56)
_BITS = 8


def numbered_picture(number: int, width: int = 64, height: int = 64) -> NDArray[np.uint8]:
    """A picture whose vertical bars are the bits of its number, least significant first: ``uint8 [H, W, 3]``.

    The bars fill the centre square, which is what a crop keeps; to its left and right the outermost ones go on.
    """
    bits = np.array([255 * (number >> bit & 1) for bit in range(_BITS)], dtype=np.uint8)
    side = min(width, height)
    column = np.clip(np.arange(width) - (width - side) // 2, 0, side - 1)
    row = bits[column * _BITS // side]
    return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()


def number_of(pixels: NDArray[np.uint8]) -> int:
    """Which picture that is, after compression, resizing and cropping with ``GEOMETRY``."""
    margin = (GEOMETRY.resize - GEOMETRY.crop) // 2
    bar = GEOMETRY.resize // _BITS
    bars = [pixels[:, max(bit * bar - margin, 0) : (bit + 1) * bar - margin].mean() for bit in range(_BITS)]
    return sum(1 << bit for bit, mean in enumerate(bars) if mean > 127)


def make_clip(
    frames: int,
    *,
    codec: str = "libx264",
    container: str = "mp4",
    size: tuple[int, int] = (64, 64),
    rate: int = 25,
    rotation: int = 0,
    pix_fmt: str | None = None,
    **options: str,
) -> bytes:
    """A clip of numbered pictures. ``rotation`` is the display matrix, counter-clockwise, as PyAV has it."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(codec, rate=rate, options=options)
        stream.width, stream.height = size
        stream.pix_fmt = pix_fmt or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        stream.time_base = Fraction(1, rate)
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_picture(number, *size), format="rgb24")
            frame.pts = number
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def claim_key_frames(clip: bytes, container: str, every: int) -> bytes:
    """The same packets, of which every so many is marked as a key frame, whatever it is."""
    buffer = io.BytesIO()
    with av.open(io.BytesIO(clip)) as source, av.open(buffer, "w", format=container) as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.is_keyframe = number % every == 0
            packet.stream = stream
            output.mux(packet)
    return buffer.getvalue()


def moov_first(clip: bytes) -> bytes:
    """The same MP4 or MOV file with its header before the media; any other file as it is."""
    boxes, place = [], 0
    while place + 8 <= len(clip) and (size := int.from_bytes(clip[place : place + 4])) >= 8:
        boxes.append(bytearray(clip[place : place + size]))
        place += size
    names = [bytes(box[4:8]) for box in boxes]
    if names[:1] != [b"ftyp"] or names[-1:] != [b"moov"] or place != len(clip):
        return clip
    header = boxes.pop()
    at = 0
    while (at := header.find(b"stco", at) + 4) > 4:
        for number in range(int.from_bytes(header[at + 4 : at + 8])):
            entry = slice(at + 8 + 4 * number, at + 12 + 4 * number)
            header[entry] = (int.from_bytes(header[entry]) + len(header)).to_bytes(4)
    return b"".join([boxes[0], header, *boxes[1:]])


def order_16(frames: int) -> tuple[int, ...]:
    """Sixteen frames of a video, coarse to fine."""
    return wanted_frames(frames, frames=16, order=visiting_order(16, "coarse_to_fine"))


def read_frames(
    data: bytes | Path, wanted: Sequence[int] | None = None, geometry: Geometry = GEOMETRY
) -> tuple[list[Frame], FrameStream, OpenVideo]:
    """All wanted frames of a video; all of its frames, in order of time, if ``wanted`` is omitted."""
    with reader(data) as opened, open_video(opened) as video:
        stream = FrameStream(video, range(video.index.frames) if wanted is None else wanted, geometry)
        frames = []
        while (frame := stream.next()) is not None:
            frames.append(frame)
        return frames, stream, video


def reader(data: bytes | Path) -> BinaryIO:
    """The bytes as a file."""
    return data.open("rb") if isinstance(data, Path) else io.BytesIO(data)


def info_of(data: bytes | Path, limits: MediaLimits | None = None) -> VideoInfo:
    """What a video is."""
    with reader(data) as opened, open_video(opened, limits) as video:
        return video.info


def outcome(data: bytes | Path, limits: MediaLimits | None = None) -> str:
    """``"ok"`` if sixteen frames can be read, ``"partial"`` if fewer, else the error's code."""
    try:
        with reader(data) as opened, open_video(opened, limits) as video:
            wanted = order_16(video.index.frames)
            stream = FrameStream(video, wanted, GEOMETRY)
            given = 0
            while stream.next() is not None:
                given += 1
            return "ok" if given == len(wanted) else "partial"
    except VideoError as error:
        return error.code

"""Writes the window of a stream as a small file of its own."""

from __future__ import annotations

import io
import time
from fractions import Fraction

import av
from av.container import OutputContainer
from av.video.stream import VideoStream

from adafocus.service.live.picture_check import PictureReport
from adafocus.service.live.rtp_video import CLOCK_HZ, AccessUnit, Codec, decoding_times
from adafocus.service.live.video_device import Picture

MAX_WINDOW_BYTES = 64 << 20
"""A window that grows larger is left out."""

Header = dict[str, object]

_TS_CODECS = frozenset({"h264", "hevc", "mpeg2video", "mpeg1video"})
"""Codecs that MPEG-TS carries with all that a decoder needs in the stream itself; the others go into Matroska."""


class PacketWindow:
    """A window of packets that FFmpeg has read.

    Args:
        stream: which they belong to.
        time_s: of the first one, on the stream's clock.
        report: of its key picture.
    """

    def __init__(self, stream: VideoStream, time_s: float, report: PictureReport) -> None:
        self._report = report
        kind = "mpegts" if stream.codec_context.codec.canonical_name in _TS_CODECS else "matroska"
        self._buffer = io.BytesIO()
        self._output: OutputContainer = av.open(self._buffer, "w", format=kind)
        self._stream = self._output.add_stream_from_template(stream)
        self._first_s = time_s
        self._last_s = time_s
        self._packets = 0
        self._too_large = False

    @property
    def seconds(self) -> float:
        """From its first packet to its last one, and as long as a packet lasts on the average."""
        return _length(self._last_s - self._first_s, self._packets)

    def add(self, packet: av.Packet[VideoStream], time_s: float) -> None:
        """Write a packet."""
        self._last_s = max(self._last_s, time_s)
        self._packets += 1
        if self._too_large or packet.time_base is None or packet.dts is None:
            return
        shift = int(self._first_s / packet.time_base)
        packet.pts = None if packet.pts is None else packet.pts - shift
        packet.dts -= shift
        packet.stream = self._stream
        self._output.mux(packet)
        if self._buffer.tell() > MAX_WINDOW_BYTES:
            self._too_large = True

    def finish(self) -> tuple[Header, bytes]:
        """The header and the file."""
        self._output.close()
        content = b"" if self._too_large else self._buffer.getvalue()
        return _header(self._first_s, self.seconds, self._packets, self._report), content


class PictureWindow:
    """A window of pictures that came in RTP packets. It is written when it is complete, as MPEG-TS.

    Args:
        codec: of the pictures.
        report: of its key picture.
    """

    def __init__(self, codec: Codec, report: PictureReport) -> None:
        self._report = report
        self._codec = codec
        self._pictures: list[AccessUnit] = []
        self._bytes = 0

    def add(self, picture: AccessUnit) -> None:
        """Take a picture."""
        self._pictures.append(picture)
        self._bytes += len(picture.data)
        if self._bytes > MAX_WINDOW_BYTES:  # their number is still counted
            self._pictures[-1] = AccessUnit(picture.pts, picture.is_key, b"")

    def finish(self) -> tuple[Header, bytes]:
        """The header and the file."""
        shown = [picture.pts for picture in self._pictures]
        first, last = min(shown), max(shown)
        seconds = _length((last - first) / CLOCK_HZ, len(shown))
        header = _header(first / CLOCK_HZ, seconds, len(shown), self._report)
        return header, b"" if self._bytes > MAX_WINDOW_BYTES else self._written(shown)

    def _written(self, shown: list[int]) -> bytes:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mpegts") as output:
            stream = output.add_mux_stream(self._codec, time_base=Fraction(1, CLOCK_HZ))
            times = decoding_times(shown)
            for picture, dts in zip(self._pictures, times, strict=True):
                packet = av.Packet(picture.data)
                packet.stream = stream
                packet.time_base = Fraction(1, CLOCK_HZ)
                packet.pts, packet.dts = picture.pts - times[0], dts - times[0]
                packet.is_keyframe = picture.is_key
                output.mux(packet)
        return buffer.getvalue()


class JpegWindow:
    """A window of pictures of a device. It is written when it is complete, as Matroska.

    Args:
        size: width and height in pixels.
        report: of its first picture.
    """

    def __init__(self, size: tuple[int, int], report: PictureReport) -> None:
        self._size = size
        self._report = report
        self._pictures: list[Picture] = []
        self._bytes = 0

    def add(self, picture: Picture) -> None:
        """Take a picture."""
        self._bytes += len(picture.data)
        self._pictures.append(picture if self._bytes <= MAX_WINDOW_BYTES else Picture(picture.time_s, b""))

    def finish(self) -> tuple[Header, bytes]:
        """The header and the file."""
        first, last, count = self._pictures[0].time_s, self._pictures[-1].time_s, len(self._pictures)
        header = _header(first, _length(last - first, count), count, self._report)
        return header, b"" if self._bytes > MAX_WINDOW_BYTES else self._written(first)

    def _written(self, first_s: float) -> bytes:
        buffer, tick = io.BytesIO(), Fraction(1, 1000)
        width, height = self._size
        with av.open(buffer, "w", format="matroska") as output:
            stream = output.add_mux_stream("mjpeg", time_base=tick, width=width, height=height)
            for picture in self._pictures:
                packet = av.Packet(picture.data)
                packet.stream, packet.time_base, packet.is_keyframe = stream, tick, True
                packet.pts = packet.dts = round((picture.time_s - first_s) * 1000)
                output.mux(packet)
        return buffer.getvalue()


def _length(span_s: float, packets: int) -> float:
    return span_s * packets / max(1, packets - 1)


def _header(start_s: float, seconds: float, packets: int, report: PictureReport) -> Header:
    return {
        "type": "window",
        "start_s": start_s,
        "seconds": seconds,
        "packets": packets,
        "brightness": report.brightness,
        "change": report.change,
        "cpu_s": time.process_time(),
    }

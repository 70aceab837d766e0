"""Cameras on loopback for `benchmarks.cameras`: RTSP at its own pace, and a cable that can be pulled."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av

from benchmarks.service_process import ROOT
from tests.service.live.rtsp_server import interleaved, rtp_packets

FRAMES_PER_SECOND, KEY_FRAME_SECONDS = 15, 2
_CLOCK_HZ = 90_000


def camera_clip(seconds: int, size: tuple[int, int], bit_rate: str) -> bytes:
    """The samples one after the other, encoded as a camera does: no B-frames, and a key frame every 2 s."""
    buffer, frames = io.BytesIO(), seconds * FRAMES_PER_SECOND
    with av.open(buffer, "w", format="mpegts") as output:
        gop = str(KEY_FRAME_SECONDS * FRAMES_PER_SECOND)
        options = {"preset": "veryfast", "tune": "zerolatency", "g": gop, "sc_threshold": "0", "b": bit_rate}
        stream = output.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.bit_rate = int(bit_rate)
        number = 0
        while number < frames:
            for clip in sorted((ROOT / "samples").glob("*.mp4")):
                for frame in _decoded(clip, frames - number):
                    picture = frame.reformat(*size, "yuv420p")
                    picture.pict_type = av.video.frame.PictureType.NONE
                    picture.pts, picture.time_base = number, Fraction(1, FRAMES_PER_SECOND)
                    number += 1
                    output.mux(stream.encode(picture))
        output.mux(stream.encode())
    return buffer.getvalue()


def _decoded(path: Path, most: int) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return [frame for frame, _ in zip(container.decode(video=0), range(most), strict=False)]


@dataclass
class PacedStream:
    """A clip's packets at its pace, again and again without a seam. Every reader begins at the clip's start.

    Args:
        clip: of which the packets are sent.
    """

    clip: bytes
    _seconds: list[list[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        packets = [packet for packet in rtp_packets(self.clip)[0] if packet[1] not in range(192, 224)]
        start = int.from_bytes(packets[0][4:8], "big")
        for packet in packets:
            second = (int.from_bytes(packet[4:8], "big") - start) % (1 << 32) // _CLOCK_HZ
            while len(self._seconds) <= second:
                self._seconds.append([])
            self._seconds[second].append(packet)

    async def play(self, offset_s: float = 0.0) -> AsyncIterator[bytes]:
        """The bytes of a connection after PLAY, one second at a time.

        Args:
            offset_s: after how much of its first second it sends, so that not all cameras send at once.
        """
        clock = asyncio.get_running_loop().time
        began, sent, sequence = clock() + offset_s, 0, 0
        while True:
            await asyncio.sleep(max(0.0, began + sent - clock()))
            turn, second = divmod(sent, len(self._seconds))
            shift = turn * len(self._seconds) * _CLOCK_HZ
            data = bytearray()
            for packet in self._seconds[second]:
                time = (int.from_bytes(packet[4:8], "big") + shift) % (1 << 32)
                moved = packet[:2] + (sequence % (1 << 16)).to_bytes(2, "big") + time.to_bytes(4, "big") + packet[8:]
                data += interleaved(moved)
                sequence += 1
            yield bytes(data)
            sent += 1


class Cable:
    """A way to a camera that can be pulled out: then nothing goes through, and nothing is closed."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._plugged = asyncio.Event()
        self._plugged.set()
        self._running: set[asyncio.Task[None]] = set()
        self.port = 0

    def pull(self) -> None:
        """Pull it out."""
        self._plugged.clear()

    def plug(self) -> None:
        """Put it in again. What was open before stays without an answer."""
        for task in tuple(self._running):
            task.cancel()
        self._plugged.set()

    @contextlib.asynccontextmanager
    async def laid(self) -> AsyncIterator[Cable]:
        """Lay it around a block."""
        listener = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for task in tuple(self._running):
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._connect(reader, writer))
        self._running.add(task)
        try:
            await task
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._running.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_writer: asyncio.StreamWriter | None = None
        try:
            await self._plugged.wait()
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
            await asyncio.gather(self._pass(reader, far_writer), self._pass(far_reader, writer))
        finally:
            if far_writer is not None:
                far_writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._plugged.wait()
            writer.write(data)
            await writer.drain()
        writer.close()

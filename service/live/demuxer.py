"""An unprivileged process that takes one stream apart: bytes in, windows as small files out.

It runs in the sandbox of a decode worker: no files, no network, no new processes, bounded memory. The service feeds it
the stream through a socket, or gives it a file that is open for reading. It sends each window as a header, JSON with
its length before it, and the bytes of a file; and at the end a header that says why.

It imports nothing of the service but the sandbox.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import socket
import stat
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict

import av
from av.container import InputContainer, OutputContainer
from av.video.stream import VideoStream

from adafocus.service.decode.worker import sandbox
from adafocus.service.decode.worker.main import fall_silent, import_everything
from adafocus.service.live.cutter import Cutter
from adafocus.video.errors import FOREIGN_ERRORS
from adafocus.video.limits import CODECS, CONTAINERS

HEADER = struct.Struct(">I")
MAX_HEADER_BYTES = 1 << 16
MAX_WINDOW_BYTES = 64 << 20
"""A window that grows larger is left out."""

_TS_CODECS = frozenset({"h264", "hevc", "mpeg2video", "mpeg1video"})
"""Codecs that MPEG-TS carries with all that a decoder needs in the stream itself; the others go into Matroska."""


def main(arguments: Sequence[str]) -> int:
    """Take a stream apart until it ends or the service is gone."""
    parser = argparse.ArgumentParser(prog="adafocus demuxer")
    for name in ("input", "output", "memory-bytes", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--window-s", type=float, required=True)
    parser.add_argument("--speed", type=float, default=0.0)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    output = socket.socket(fileno=given.output)
    source = reader(given.input)
    import_everything()
    fall_silent()
    report = sandbox.enter(given.memory_bytes, parent=given.parent)
    send(output, {"type": "ready", "sandbox": asdict(report)})
    reason = "the stream ended"
    try:
        with _opened(source) as container:
            for header, content in windows(container, given.window_s, given.speed):
                send(output, header, content)
    except BrokenPipeError:
        return 0
    except (*FOREIGN_ERRORS, MemoryError) as error:
        reason = f"the stream cannot be read: {type(error).__name__}"
    except Exception as error:  # noqa: BLE001 - a bug of ours ends one stream; the service logs it
        reason = f"the demuxer failed: {type(error).__name__}: {error}"[:200]
    send(output, {"type": "end", "reason": reason})
    return 0


def send(output: socket.socket, header: dict[str, object], content: bytes = b"") -> None:
    """Send a header, and the bytes that it announces."""
    data = json.dumps({**header, "bytes": len(content)}).encode()
    output.sendall(HEADER.pack(len(data)) + data)
    if content:
        output.sendall(content)


def windows(container: InputContainer, window_s: float, speed: float) -> Iterator[tuple[dict[str, object], bytes]]:
    """The windows of an open stream: a header and a file each.

    Args:
        container: open.
        window_s: length of a window, seconds.
        speed: how many times faster than its own pace the stream is played; 0: as it comes.
    """
    streams = [stream for stream in container.streams.video if stream.codec_context is not None]
    if not streams:
        raise ValueError("the stream holds no video")
    stream = streams[0]
    if stream.codec_context.codec.canonical_name not in CODECS:
        raise ValueError("the codec is not permitted")
    cutter, window, began = Cutter(window_s), None, time.monotonic()
    played = 0.0
    for packet in container.demux(stream):
        if not packet.size or packet.dts is None or packet.time_base is None:
            continue
        time_s = float(packet.dts * packet.time_base)
        verdict = cutter.see(time_s, key=packet.is_keyframe)
        if verdict != "add" and window is not None:
            yield window.finish()
            played += window.seconds
            window = None
            if speed:
                time.sleep(max(0.0, began + played / speed - time.monotonic()))
        if verdict == "cut":
            window = _Window(stream, time_s)
        if window is not None:
            window.add(packet, time_s)
    if window is not None:
        yield window.finish()


class _Window:
    """The window that is being written."""

    def __init__(self, stream: VideoStream, time_s: float) -> None:
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
        span = self._last_s - self._first_s
        return span * self._packets / max(1, self._packets - 1)

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

    def finish(self) -> tuple[dict[str, object], bytes]:
        """The header and the file."""
        self._output.close()
        content = b"" if self._too_large else self._buffer.getvalue()
        header = {"type": "window", "start_s": self._first_s, "seconds": self.seconds, "packets": self._packets}
        return header, content


class _SocketReader:
    """The stream as a file that cannot be rewound."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none at the end."""
        return self._socket.recv(size if size > 0 else 1 << 16)


class _FileReader:
    """A file at its own position, without a name."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd = fd
        self._size = size
        self._position = 0

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes; none at the end."""
        data = os.pread(self._fd, size if size > 0 else 1 << 16, self._position)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move the position."""
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._size
        self._position = max(0, offset)
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position


def reader(fd: int) -> _SocketReader | _FileReader:
    """What reads a descriptor. Called before the sandbox, which forbids to ask what a descriptor is."""
    status = os.fstat(fd)
    return _FileReader(fd, status.st_size) if stat.S_ISREG(status.st_mode) else _SocketReader(fd)


def _opened(source: _SocketReader | _FileReader) -> InputContainer:
    options = {
        "format_whitelist": ",".join(CONTAINERS),
        "protocol_whitelist": "pipe",
        "probesize": "500000",
        "analyzeduration": "2000000",
    }
    return av.open(source, "r", options=options, metadata_errors="replace")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

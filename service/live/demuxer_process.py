"""The service's side of a demuxer: start it, feed it, receive its windows, stop it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Annotated

import msgspec

from adafocus.service.decode.messages import Part, Sandbox
from adafocus.service.decode.template import worker_environment
from adafocus.service.decode.worker.sandbox import SandboxReport
from adafocus.service.live import demuxer
from adafocus.service.live.rtsp_address import RtspAddress
from adafocus.service.live.window_writer import MAX_WINDOW_BYTES

SILENCE_SECONDS = 20.0
"""A camera that sends nothing for so long is given up, and its stream is opened again."""

MEMORY_BYTES = 512 << 20
"""Address space of a demuxer beyond what it starts with."""


class StreamEndedError(Exception):
    """A stream ended, or its demuxer gave up; the text says why."""


class _Message(Part, frozen=True, kw_only=True, tag_field="type"):
    bytes: Annotated[int, msgspec.Meta(ge=0, le=MAX_WINDOW_BYTES + (1 << 20))]


class _Ready(_Message, frozen=True, kw_only=True, tag="ready"):
    sandbox: Sandbox


class _Window(_Message, frozen=True, kw_only=True, tag="window"):
    start_s: Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
    seconds: Annotated[float, msgspec.Meta(ge=0, le=1e6)]
    packets: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
    brightness: Annotated[float, msgspec.Meta(ge=0, le=255)] | None
    change: Annotated[float, msgspec.Meta(ge=0, le=255)] | None
    cpu_s: Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class _End(_Message, frozen=True, kw_only=True, tag="end"):
    reason: Annotated[str, msgspec.Meta(max_length=demuxer.MAX_REASON)]


_DECODER = msgspec.json.Decoder(_Ready | _Window | _End)


@dataclass(frozen=True, slots=True)
class StreamWindow:
    """One window of a stream, as a small file.

    Attributes:
        start_s: on the stream's clock.
        seconds: its length.
        content: the file; empty if the window was too large.
        brightness: of its key picture, as `picture_check.PictureReport` has it.
        change: of its key picture, likewise.
        cpu_s: processor time that the demuxer had used when the window was complete, seconds.
    """

    start_s: float
    seconds: float
    content: bytes
    brightness: float | None = None
    change: float | None = None
    cpu_s: float = 0.0


class DemuxerProcess:
    """A running demuxer. Created by `start`; `close` must be called once.

    Attributes:
        feed: the stream is written here; None if the demuxer reads a file.
        sandbox: its sandbox, as it reported it.
    """

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        connection: asyncio.StreamWriter,
        feed: asyncio.StreamWriter | None,
    ) -> None:
        self.feed = feed
        self.sandbox: SandboxReport | None = None
        self._process = process
        self._reader = reader
        self._connection = connection  # what is not referred to is closed

    @classmethod
    async def start(
        cls,
        window_s: float,
        *,
        file_fd: int | None = None,
        speed: float = 0.0,
        camera: tuple[RtspAddress, socket.socket] | None = None,
        is_device: bool = False,
    ) -> DemuxerProcess:
        """Start a demuxer and wait until it is in its sandbox.

        Args:
            window_s: length of a window, seconds.
            file_fd: a file that is open for reading; None: the stream is fed.
            speed: how many times faster than its own pace a file is played.
            camera: an RTSP camera and an open connection to it, instead of a file or a feed.
            is_device: whether the file is a device that captures video.

        Raises:
            StreamEndedError: it did not start.
        """
        ours, theirs = socket.socketpair()
        fed, feeding = socket.socketpair() if file_fd is None and camera is None else (None, None)
        try:
            fd = fed.fileno() if fed is not None else file_fd if camera is None else camera[1].fileno()
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - blocks for some milliseconds; arguments of our own
                [
                    *(sys.executable, "-P", "-m", demuxer.__name__),
                    *(f"--input={fd}", f"--output={theirs.fileno()}", f"--memory-bytes={MEMORY_BYTES}"),
                    *(f"--parent={os.getpid()}", f"--window-s={window_s}", f"--speed={speed}"),
                    f"--kind={'rtsp' if camera is not None else 'device' if is_device else 'stream'}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno(), *([] if fd is None else [fd])],
                env=_environment(),
                process_group=0,  # and no session, as for decode workers
            )
        finally:
            theirs.close()
            if fed is not None:
                fed.close()
        try:
            if camera is not None:
                ours.sendall(_session_message(camera[0]))  # not an argument, which other users of the machine can read
            reader, connection = await asyncio.open_connection(sock=ours, limit=1 << 20)
            writer = None if feeding is None else (await asyncio.open_connection(sock=feeding))[1]
        except BaseException:  # cancelled
            process.kill()
            ours.close()
            if feeding is not None:
                feeding.close()
            process.wait()
            raise
        self = cls(process, reader, connection, writer)
        try:
            first, _ = await self._next()
            if not isinstance(first, _Ready):
                raise StreamEndedError("the demuxer did not start")
            self.sandbox = first.sandbox.report()
        except BaseException:
            await self.close()
            raise
        return self

    async def windows(self) -> AsyncGenerator[StreamWindow, None]:
        """The windows as they are complete.

        Raises:
            StreamEndedError: there will be no more; the text says why.
        """
        while True:
            message, content = await self._next()
            if isinstance(message, _End):
                raise StreamEndedError(message.reason)
            if isinstance(message, _Window):
                told = message.brightness, message.change, message.cpu_s
                yield StreamWindow(message.start_s, message.seconds, content, *told)

    async def close(self) -> None:
        """Kill the demuxer and wait for its end."""
        self._process.kill()
        for writer in (self._connection, self.feed):
            if writer is not None:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
        await asyncio.to_thread(self._process.wait)

    async def _next(self) -> tuple[_Ready | _Window | _End, bytes]:
        try:
            (length,) = demuxer.HEADER.unpack(await self._reader.readexactly(demuxer.HEADER.size))
            if length > demuxer.MAX_HEADER_BYTES:
                raise StreamEndedError("the demuxer broke the protocol")
            message = _DECODER.decode(await self._reader.readexactly(length))
            return message, await self._reader.readexactly(message.bytes)
        except (asyncio.IncompleteReadError, ConnectionError):
            code = self._process.poll()
            raise StreamEndedError(f"the demuxer ended{'' if code is None else f' with code {code}'}") from None
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise StreamEndedError("the demuxer broke the protocol") from None


def _environment() -> dict[str, str]:
    """That of a sandboxed process, and where OpenSSL is told to look for certificates: cameras often have their own."""
    told = {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ}
    return {**worker_environment(), **told}


def _session_message(address: RtspAddress) -> bytes:
    user, password = (None, None)
    if address.credentials is not None:
        user, password = address.credentials.user, address.credentials.password
    told = {
        "url": address.url,
        "user": user,
        "password": password,
        "tls_host": address.host if address.tls else None,
        "silence_s": SILENCE_SECONDS,
    }
    data = json.dumps(told).encode()
    return demuxer.HEADER.pack(len(data)) + data


@contextlib.asynccontextmanager
async def demuxing(
    window_s: float,
    *,
    file_fd: int | None = None,
    speed: float = 0.0,
    camera: tuple[RtspAddress, socket.socket] | None = None,
    is_device: bool = False,
) -> AsyncIterator[DemuxerProcess]:
    """A demuxer, started and closed around a block; see `DemuxerProcess.start`.

    Raises:
        StreamEndedError: it did not start.
    """
    process = await DemuxerProcess.start(window_s, file_fd=file_fd, speed=speed, camera=camera, is_device=is_device)
    try:
        yield process
    finally:
        await process.close()

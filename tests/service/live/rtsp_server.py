"""An RTSP server on loopback: real RTP packets of FFmpeg's muxer over TCP, from a camera that behaves well or badly."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import io
import re
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import av

NONCE, REALM = "0a1b2c", "camera"
_ENCODINGS = {"h264": "H264/90000", "hevc": "H265/90000", "mjpeg": "JPEG/90000", "mpeg4": "MP4V-ES/90000"}


@functools.lru_cache(maxsize=8)
def rtp_packets(clip: bytes) -> tuple[list[bytes], str]:
    """The RTP and RTCP packets of a clip's video, and the lines of an SDP that describe it."""
    packets: list[bytes] = []

    class Sink:
        def write(self, data: bytes) -> int:
            packets.append(bytes(data))
            return len(data)

    with av.open(io.BytesIO(clip)) as source:
        stream = source.streams.video[0]
        payload = 26 if stream.codec_context.name == "mjpeg" else 96
        extradata = stream.codec_context.extradata or b""
        with av.open(Sink(), "w", format="rtp", buffer_size=1400, options={"ssrc": "1", "seq": "65500"}) as output:
            copied = output.add_stream_from_template(stream)
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = copied
                    output.mux(packet)
        encoding = _ENCODINGS[stream.codec_context.codec.canonical_name]
    lines = f"m=video 0 RTP/AVP {payload}\r\na=rtpmap:{payload} {encoding}\r\n"
    if payload == 96:
        lines += "a=fmtp:96 packetization-mode=1"
        lines += _parameter_sets(extradata) + "\r\n"
    return packets, lines


def _parameter_sets(extradata: bytes) -> str:
    """Those of an H.264 file that has them in its header only, as ``sprop-parameter-sets``."""
    if not extradata.startswith(b"\x01"):
        return ""
    sets, at = [], 6
    for _ in range(2):  # one of the sequence, one of the picture
        length = int.from_bytes(extradata[at : at + 2], "big")
        sets.append(base64.b64encode(extradata[at + 2 : at + 2 + length]).decode())
        at += length + 3
    return ";sprop-parameter-sets=" + ",".join(sets)


@dataclass
class Camera:
    """What a camera does.

    Attributes:
        clip: the video that it sends, again for each connection.
        password: of the user ``operator``; None: it asks for none.
        scheme: of authentication.
        cut_after: it closes the connection after so many packets; None: at the end of the clip.
        holds: it stays connected and silent after the clip.
        answers: status and headers for a method, instead of what a good camera answers.
        transport: what it answers to SETUP.
        extra: bytes that it sends before each packet, such as another stream's packets.
        before: lines of the SDP before those of the video.
        control: of the video in the SDP.
        live: the bytes that it sends after PLAY, instead of the clip's packets; the clip is then only described.
    """

    clip: bytes
    password: str | None = None
    scheme: str = "Digest"
    cut_after: int | None = None
    holds: bool = False
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    transport: str = "RTP/AVP/TCP;unicast;interleaved=0-1"
    extra: bytes = b""
    before: str = ""
    control: str = "trackID=1"
    timeout_s: int = 60
    channel: int = 0
    live: Callable[[], AsyncIterator[bytes]] | None = None


@dataclass
class RtspServer:
    """A server that runs; remembers the requests."""

    port: int
    requests: list[tuple[str, str]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    scheme: str = "rtsp"

    def url(self, user: str = "") -> str:
        return f"{self.scheme}://{user}127.0.0.1:{self.port}/stream"

    def methods(self) -> list[str]:
        return [method for method, _ in self.requests]


@contextlib.asynccontextmanager
async def serving_rtsp(
    next_camera: Callable[[], Camera], port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[RtspServer]:
    """Serve on loopback; ``next_camera`` says how the next connection is treated."""
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        connection = _Connection(next_camera(), server, reader, writer)
        try:
            await connection.serve()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            running.discard(task)
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", port, ssl=tls)
    server = RtspServer(listener.sockets[0].getsockname()[1], scheme="rtsp" if tls is None else "rtsps")
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@dataclass
class _Connection:
    camera: Camera
    server: RtspServer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    sending: asyncio.Task[None] | None = None

    async def serve(self) -> None:
        try:
            while head := (await self.reader.readuntil(b"\r\n\r\n")).decode():
                method, url, _ = head.split("\r\n")[0].split(" ")
                self.server.requests.append((method, url))
                self.server.asked.set()
                self._answer(method, url, head)
                if method == "PLAY":
                    self.sending = asyncio.create_task(self._send())
        finally:
            if self.sending is not None:
                self.sending.cancel()

    def _answer(self, method: str, url: str, head: str) -> None:
        sequence = re.search(r"CSeq: (\d+)", head)
        assert sequence is not None
        status, headers, body = self._response(method, url, head)
        lines = [f"RTSP/1.0 {status} Whatever", f"CSeq: {sequence[1]}", *headers]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.writer.write(("\r\n".join(lines) + "\r\n\r\n").encode() + body)

    def _response(self, method: str, url: str, head: str) -> tuple[int, list[str], bytes]:
        camera = self.camera
        if method in camera.answers:
            status, more = camera.answers[method]
            return status, [more] if more else [], b""
        if method != "OPTIONS" and camera.password is not None and not self._permitted(method, url, head):
            challenge = f'{camera.scheme} realm="{REALM}"'
            if camera.scheme == "Digest":
                challenge += f', nonce="{NONCE}", qop="auth"'
            return 401, ['WWW-Authenticate: Basic realm="other"', f"WWW-Authenticate: {challenge}"], b""
        if method == "OPTIONS":
            return 200, ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"], b""
        if method == "DESCRIBE":
            video = rtp_packets(camera.clip)[1]
            text = f"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\n{camera.before}{video}"
            text += f"a=control:{camera.control}\r\n"
            return 200, ["Content-Type: application/sdp", f"Content-Base: {url}/"], text.encode()
        if method == "SETUP":
            return 200, [f"Transport: {camera.transport}", f"Session: 12345678;timeout={camera.timeout_s}"], b""
        return 200, ["Session: 12345678"], b""

    def _permitted(self, method: str, url: str, head: str) -> bool:
        """Whether the request is signed as the RFCs say; computed here, not by what is tested."""
        found = re.search(r"Authorization: (\w+) (.*)\r", head)
        camera = self.camera
        if found is None or found[1] != camera.scheme:
            return False
        if found[1] == "Basic":
            return base64.b64decode(found[2]) == f"operator:{camera.password}".encode()
        given = dict(re.findall(r'(\w+)="?([^",]*)"?', found[2]))
        first = hashlib.md5(f"operator:{REALM}:{camera.password}".encode(), usedforsecurity=False).hexdigest()
        second = hashlib.md5(f"{method}:{url}".encode(), usedforsecurity=False).hexdigest()
        signed = f"{first}:{NONCE}:{given['nc']}:{given['cnonce']}:auth:{second}"
        return given["response"] == hashlib.md5(signed.encode(), usedforsecurity=False).hexdigest()

    async def _send(self) -> None:
        camera = self.camera
        if camera.live is not None:
            async for data in camera.live():
                self.writer.write(data)
                await self.writer.drain()
            self.writer.close()
            return
        for packet in _first(rtp_packets(camera.clip)[0], camera.cut_after):
            self.writer.write(camera.extra + interleaved(packet, camera.channel))
            await self.writer.drain()
        if not camera.holds:
            self.writer.close()


def interleaved(packet: bytes, channel: int = 0) -> bytes:
    """A packet as it is sent over the connection; RTCP goes to the channel after that of RTP."""
    return bytes((0x24, channel + (packet[1] in range(192, 224)))) + len(packet).to_bytes(2, "big") + packet


def _first(packets: list[bytes], count: int | None) -> Iterator[bytes]:
    return iter(packets if count is None else packets[:count])

"""An RTSP client (RFC 2326) on a connection that is already open: RTP over that connection, of one video stream.

It runs in the demuxer's sandbox, because what a camera says is as untrusted as its pictures. It cannot dial: a redirect
ends the stream. Standard library only.
"""

from __future__ import annotations

import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from adafocus.service.live.rtsp_authentication import AuthenticationError, Credentials, authorization
from adafocus.service.live.session_description import DescriptionError, VideoDescription, first_video

MAX_HEAD_BYTES = 1 << 14
MAX_BODY_BYTES = 1 << 16
_RECEIVE_BYTES = 1 << 16
_MAX_EARLY_PACKETS = 256
_MAX_MESSAGES = 64
"""A server that answers something else so many times will not answer."""

_SESSION_SECONDS = 60.0
"""A session's life without a word of the client, where the server does not state another."""

_VIDEO_CHANNEL, _CONTROL_CHANNEL = 0, 1


class RtspError(Exception):
    """The camera cannot be read; the text says why, and holds no secret."""


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the server; ``headers`` have lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True)
class RtspSession:
    """A session with one camera.

    Args:
        connection: open, to the camera, with a timeout.
        url: of the stream, without credentials.
        credentials: for servers that ask for them.
        clock: returns seconds.
    """

    connection: socket.socket
    url: str
    credentials: Credentials | None = None
    clock: Callable[[], float] = time.monotonic
    _buffer: bytearray = field(default_factory=bytearray)
    _early: deque[bytes] = field(default_factory=lambda: deque(maxlen=_MAX_EARLY_PACKETS))
    _channel: int = _VIDEO_CHANNEL
    _sequence: int = 0
    _challenge: str | None = None
    _session: str | None = None
    _keep_alive: str = "OPTIONS"
    _keep_alive_seconds: float = _SESSION_SECONDS / 2
    _next_keep_alive: float = 0.0
    _aggregate: str = ""

    def open(self) -> VideoDescription:
        """Ask for the stream's description, set up its first video over this connection, and start it.

        Raises:
            RtspError: the server refuses, or offers no such video.
            OSError: the connection failed.
        """
        options = self._request("OPTIONS", self.url)
        if "GET_PARAMETER" in options.headers.get("public", "").upper():
            self._keep_alive = "GET_PARAMETER"
        described = self._asked("DESCRIBE", self.url, Accept="application/sdp")
        base = described.headers.get("content-base") or described.headers.get("content-location") or self.url
        try:
            video = first_video(described.body, base)
        except DescriptionError as error:
            raise RtspError(str(error)) from None
        self._aggregate = video.aggregate_url
        transport = f"RTP/AVP/TCP;unicast;interleaved={_VIDEO_CHANNEL}-{_CONTROL_CHANNEL}"
        ready = self._asked("SETUP", video.control_url, Transport=transport)
        self._set_up(ready)
        self._asked("PLAY", self._aggregate, Range="npt=0.000-")
        self._next_keep_alive = self.clock() + self._keep_alive_seconds
        return video

    def packets(self) -> Iterator[bytes]:
        """The RTP packets of the video, until the server closes the connection.

        Raises:
            RtspError: the server broke the protocol or ended the session.
            OSError: the connection failed, or was silent for too long.
        """
        while True:
            if self.clock() >= self._next_keep_alive:
                self._send(self._keep_alive, self._aggregate, {})
                self._next_keep_alive = self.clock() + self._keep_alive_seconds
            try:
                packet = self._early.popleft() if self._early else self._next_packet()
            except EOFError:
                return
            if packet is not None:
                yield packet

    def _next_packet(self) -> bytes | None:
        """An RTP packet; None for anything else."""
        found = self._receive()
        if isinstance(found, Response):
            if found.status == 454:  # the server has forgotten the session
                raise RtspError("the camera ended the session")
            return None
        channel, packet = found
        return packet if channel == self._channel else None

    def _set_up(self, response: Response) -> None:
        transport = response.headers.get("transport", "")
        if transport and "tcp" not in transport.lower():
            raise RtspError("the camera offers no RTP over TCP")
        channels = re.search(r"interleaved\s*=\s*(\d{1,3})", transport)
        if channels:
            self._channel = int(channels[1])
        name, _, parameters = response.headers.get("session", "").partition(";")
        self._session = name.strip()[:256] or None
        seconds = re.search(r"timeout\s*=\s*(\d{1,6})", parameters)
        if seconds:
            self._keep_alive_seconds = max(1.0, int(seconds[1]) / 2)

    def _asked(self, method: str, url: str, **headers: str) -> Response:
        """A response that says yes."""
        response = self._request(method, url, **headers)
        if response.status == 200:
            return response
        if 300 <= response.status < 400:
            raise RtspError(f"the camera answered {method} with a redirect, which is not followed")
        if response.status == 461:
            raise RtspError("the camera offers no RTP over TCP")
        if response.status == 401:
            raise RtspError("the camera asks for a user name and a password, or refuses those in its URL")
        raise RtspError(f"the camera answered {method} with the status {response.status}, expected 200")

    def _request(self, method: str, url: str, **headers: str) -> Response:
        response = self._exchange(method, url, headers)
        challenge = response.headers.get("www-authenticate")
        if response.status == 401 and challenge and self.credentials is not None:
            self._challenge = challenge
            response = self._exchange(method, url, headers)
        return response

    def _exchange(self, method: str, url: str, headers: Mapping[str, str]) -> Response:
        sequence = self._send(method, url, headers)
        for _ in range(_MAX_MESSAGES):
            try:
                found = self._receive()
            except EOFError:
                raise RtspError(f"the camera closed the connection at {method}") from None
            if isinstance(found, Response):
                if found.headers.get("cseq", "").strip() == str(sequence):
                    return found
            elif found[0] == self._channel:
                self._early.append(found[1])
        raise RtspError(f"the camera did not answer {method}")

    def _send(self, method: str, url: str, headers: Mapping[str, str]) -> int:
        self._sequence += 1
        lines = [f"{method} {url} RTSP/1.0", f"CSeq: {self._sequence}", "User-Agent: adafocus"]
        if self._session is not None:
            lines.append(f"Session: {self._session}")
        if self._challenge is not None and self.credentials is not None:
            try:
                lines.append(f"Authorization: {authorization(self._challenge, self.credentials, method, url)}")
            except AuthenticationError as error:
                raise RtspError(str(error)) from None
        lines += [f"{name}: {value}" for name, value in headers.items()]
        text = "\r\n".join(lines)
        if any(letter in text for letter in "\0") or text.count("\n") != len(lines) - 1:
            raise RtspError("the camera named something that cannot be asked for")
        try:
            self.connection.sendall((text + "\r\n\r\n").encode("utf-8", "surrogateescape"))
        except ConnectionError:
            raise RtspError(f"the camera closed the connection at {method}") from None
        return self._sequence

    def _receive(self) -> Response | tuple[int, bytes]:
        """The next message: a response, or a channel and a packet. Requests of the server count as a response of 0."""
        while self._needed(1)[0] in b"\r\n":
            del self._buffer[:1]
        if self._buffer[0] == 0x24:  # a dollar sign
            header = self._needed(4)
            channel, length = header[1], int.from_bytes(header[2:4], "big")
            packet = bytes(self._needed(4 + length)[4 : 4 + length])
            del self._buffer[: 4 + length]
            return channel, packet
        return self._receive_message()

    def _receive_message(self) -> Response:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise RtspError(f"the camera sent a message of more than {MAX_HEAD_BYTES} bytes, or no RTSP at all")
            self._fill()
        first, *lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            key = name.strip().lower()
            # Of several challenges Digest is taken, whose password cannot be read on the way.
            digest = key == "www-authenticate" and value.strip().lower().startswith("digest")
            if colon and (digest or key not in headers):
                headers[key] = value.strip()
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdecimal() and len(length) < 9) or int(length) > MAX_BODY_BYTES:
            raise RtspError(f"the camera sent a message with a body of more than {MAX_BODY_BYTES} bytes")
        body = bytes(self._needed(int(length))[: int(length)])
        del self._buffer[: int(length)]
        status = re.match(r"RTSP/\d\.\d (\d{3})", first)
        if status is None and not re.match(r"[A-Z_]{3,16} \S+ RTSP/\d\.\d$", first):
            raise RtspError("the camera does not speak RTSP")
        if status is None and first.startswith(("TEARDOWN", "REDIRECT")):
            raise RtspError("the camera ended the session")
        return Response(0 if status is None else int(status[1]), headers, body)

    def _needed(self, size: int) -> bytearray:
        while len(self._buffer) < size:
            self._fill()
        return self._buffer

    def _fill(self) -> None:
        data = self.connection.recv(_RECEIVE_BYTES)
        if not data:
            raise EOFError
        self._buffer += data

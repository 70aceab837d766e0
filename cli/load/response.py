"""Reads HTTP/1.1 responses from a connection, as far as a load generator needs it."""

from __future__ import annotations

from dataclasses import dataclass

_MAX_HEAD_BYTES = 64 << 10
_MAX_BODY_BYTES = 64 << 20


class ResponseError(Exception):
    """The server sent something that this client cannot read as an HTTP/1.1 response."""


@dataclass(frozen=True, slots=True)
class Response:
    """One response; ``reusable`` says whether the connection can carry another request."""

    status: int
    body: bytes
    reusable: bool


class ResponseReader:
    """Takes the bytes of one response in any pieces."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._status = 0
        self._reusable = False
        self._length: int | None = None
        self._chunked: _Chunks | None = None

    @property
    def begun(self) -> bool:
        """True if anything has arrived."""
        return bool(self._buffer) or self._status > 0

    def feed(self, data: bytes) -> Response | None:
        """The response, once it is complete.

        Raises:
            ResponseError: it is malformed or too large.
        """
        self._buffer += data
        while self._status == 0:
            end = self._buffer.find(b"\r\n\r\n")
            if end < 0:
                if len(self._buffer) > _MAX_HEAD_BYTES:
                    raise ResponseError(f"the response's headers are longer than {_MAX_HEAD_BYTES} bytes")
                return None
            self._read_head(bytes(self._buffer[:end]))
            del self._buffer[: end + 4]
        if self._chunked is not None:
            body = self._chunked.feed(self._buffer)
            return None if body is None else Response(self._status, body, self._reusable)
        if len(self._buffer) > _MAX_BODY_BYTES:
            raise ResponseError(f"the response is longer than {_MAX_BODY_BYTES} bytes")
        if self._length is None or len(self._buffer) < self._length:
            return None
        reusable = self._reusable and len(self._buffer) == self._length
        return Response(self._status, bytes(self._buffer[: self._length]), reusable)

    def end(self) -> Response:
        """The response, now that the server has closed the connection.

        Raises:
            ResponseError: it is not complete.
        """
        if self._status and self._length is None and self._chunked is None:
            return Response(self._status, bytes(self._buffer), reusable=False)
        raise ResponseError(
            "the server closed the connection in the middle of its response"
            if self.begun
            else "the server closed the connection without a response"
        )

    def _read_head(self, head: bytes) -> None:
        start, *lines = head.split(b"\r\n")
        words = start.split(None, 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or len(words[1]) != 3 or not words[1].isdigit():
            raise ResponseError(f"the response begins with {start[:40]!r}, not with HTTP/1.1 and a status")
        status = int(words[1])
        if status < 200:  # 100 Continue and other interim responses precede the response
            return
        fields = {}
        for line in lines:
            name, _, value = line.partition(b":")
            fields[name.lower()] = value.strip().lower()
        self._status = status
        connection = fields.get(b"connection", b"")
        self._reusable = b"close" not in connection and (words[0] != b"HTTP/1.0" or b"keep-alive" in connection)
        if fields.get(b"transfer-encoding", b"").endswith(b"chunked"):
            self._chunked = _Chunks()
        elif status in (204, 304):
            self._length = 0
        elif (length := fields.get(b"content-length")) is not None:
            if not length.isdigit() or len(length) > 18:
                raise ResponseError(f"Content-Length is {length[:40]!r}, not a number")
            self._length = int(length)


class _Chunks:
    """A body in chunked coding (RFC 9112, section 7.1)."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._in_trailer = False

    def feed(self, buffer: bytearray) -> bytes | None:
        """Take complete chunks out of the buffer; returns the body once the last one has arrived."""
        while True:
            end = buffer.find(b"\r\n")
            if end < 0:
                return None
            if self._in_trailer:
                del buffer[: end + 2]
                if end == 0:
                    return b"".join(self._parts)
                continue
            digits = bytes(buffer[:end]).split(b";")[0].strip()
            try:
                size = int(digits, 16)
            except ValueError:
                raise ResponseError(f"a chunk's size is {digits[:40]!r}, not a hexadecimal number") from None
            if size < 0 or self._size + size > _MAX_BODY_BYTES:
                raise ResponseError(f"the response is longer than {_MAX_BODY_BYTES} bytes")
            if size == 0:
                self._in_trailer = True
                del buffer[: end + 2]
            elif len(buffer) < end + 2 + size + 2:
                return None
            else:
                self._parts.append(bytes(buffer[end + 2 : end + 2 + size]))
                self._size += size
                del buffer[: end + 2 + size + 2]

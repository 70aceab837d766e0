"""Takes the video out of a request in JSON while the request arrives, so that its size costs no memory. Pure.

A request holds one long string, the video in base64. The string is decoded piece by piece and replaced by a short one,
and the rest of the request is parsed as a whole.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable

from adafocus.service.errors import BadParameter

LONG_STRING_BYTES = 4096
"""A longer string is the video. A shorter one stays in the JSON, whatever it is."""

MAX_REST_BYTES = 1 << 16
"""Limit on the request without its video: parsing it makes an object of every value."""

PLACEHOLDER = "adafocus:video"
"""Stands for the video in the rest of the request. It is not base64, so no short video is mistaken for it."""

_SHORT_STRINGS = re.compile(rb'(?:[^"]++|"(?:[^"\\]|\\[\s\S]){0,2048}+")*+')
"""As many whole strings that are certainly short, and what is between them, as there are. One expression for all of
them: a step for every string or escape would make a request of a few kilobytes keep the event loop for long."""

_IN_STRING = re.compile(rb'(?:[^"\\]++|\\[\s\S])*+')


class VideoInJson:
    """Separates a request from its video.

    Args:
        sink: gets the bytes of the video.
    """

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._rest = bytearray()
        self._in_string = False
        self._escaped = False
        self._string_began = 0
        self._video = False  # the string that is being read is the video
        self._undecoded = b""
        self._padded = False
        self.found = False
        """Whether the request holds a long string."""

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes of the request.

        Raises:
            BadParameter: the video is not base64, or the request has too much beside it.
        """
        at = 0
        while at < len(chunk):
            if self._video:
                at = self._read_video(chunk, at)
            elif self._in_string:
                at = self._read_string(chunk, at)
            else:
                at = self._read_until_long_string(chunk, at)

    def finish(self) -> bytes:
        """The request, with `PLACEHOLDER` in place of its video."""
        return bytes(self._rest)

    def _keep(self, piece: bytes) -> None:
        self._rest += piece
        if len(self._rest) > MAX_REST_BYTES:
            raise BadParameter(f"the JSON without its video has more than {MAX_REST_BYTES} bytes, the most allowed")

    def _read_until_long_string(self, chunk: bytes, at: int) -> int:
        end = _end(_SHORT_STRINGS, chunk, at, at + MAX_REST_BYTES + 1 - len(self._rest))
        self._in_string = end < len(chunk)
        end += self._in_string  # the quote with which a string begins that is long, or not all there
        self._keep(chunk[at:end])
        self._string_began = len(self._rest)
        return end

    def _read_string(self, chunk: bytes, at: int) -> int:
        if self._escaped:
            self._escaped = False
            self._keep(chunk[at : at + 1])
            self._begin_video_if_long()
            return at + 1
        longest = at + LONG_STRING_BYTES + 1 - (len(self._rest) - self._string_began)
        end = _end(_IN_STRING, chunk, at, longest)
        if end < min(len(chunk), longest):  # at a quote, or at a backslash whose character is not there yet
            self._escaped = self._in_string = chunk[end : end + 1] == b"\\"
            end += 1
        self._keep(chunk[at:end])
        if self._in_string and not self._escaped:
            self._begin_video_if_long()
        return end

    def _begin_video_if_long(self) -> None:
        if len(self._rest) - self._string_began <= LONG_STRING_BYTES:
            return
        if self.found:
            raise BadParameter("the JSON has two long strings; a request holds one video")
        self.found = self._video = True
        begun = bytes(self._rest[self._string_began :])
        self._rest[self._string_began :] = PLACEHOLDER.encode()
        self._read_video(begun, 0)

    def _read_video(self, chunk: bytes, at: int) -> int:
        quote = chunk.find(b'"', at)
        end = len(chunk) if quote < 0 else quote
        piece = self._undecoded + chunk[at:end]
        self._undecoded = b""
        if b"\\" in piece:
            piece = self._without_escapes(piece, last=quote >= 0)
        self._decode(piece, last=quote >= 0)
        if quote < 0:
            return end
        self._keep(b'"')
        self._video = self._in_string = False
        return end + 1

    def _without_escapes(self, piece: bytes, *, last: bool) -> bytes:
        """Undo the one escape that base64 in JSON may have, that of a slash."""
        cut = piece.endswith(b"\\") and not last
        self._undecoded = b"\\" if cut else b""
        piece = (piece[:-1] if cut else piece).replace(b"\\/", b"/")
        if b"\\" in piece:
            raise BadParameter(
                "inputs.0.data must be base64 without escapes; or send the video as bytes after the JSON, with the "
                "header Inference-Header-Content-Length"
            )
        return piece

    def _decode(self, piece: bytes, *, last: bool) -> None:
        whole = len(piece) if last else len(piece) - len(piece) % 4
        self._undecoded = piece[whole:] + self._undecoded
        if not whole:
            return
        if self._padded:
            raise BadParameter("inputs.0.data must be base64")
        try:
            decoded = binascii.a2b_base64(piece[:whole], strict_mode=True)
        except binascii.Error:
            raise BadParameter("inputs.0.data must be base64") from None
        self._padded = piece[whole - 1 : whole] == b"="
        self._sink(decoded)


def _end(expression: re.Pattern[bytes], chunk: bytes, at: int, limit: int) -> int:
    """Where the match of an expression ends that also matches nothing."""
    found = expression.match(chunk, at, limit)
    return at if found is None else found.end()

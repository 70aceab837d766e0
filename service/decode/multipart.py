"""Extracts the video from a multipart form while the form is still arriving."""

from __future__ import annotations

from collections.abc import Callable

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from adafocus.service.errors import NoVideoPart

VIDEO_PARTS = (b"video", b"file")
"""Names of the part that holds the video. The first such part is used."""

MAX_PARTS = 64
"""A form with more parts is rejected."""

MAX_PART_HEADERS, MAX_PART_HEADER_BYTES = 16, 8192
"""A form with more or longer headers in a part is rejected, because they are held in memory until they are complete."""


class VideoPart:
    """Passes the bytes of a form's video part to ``sink`` as the form arrives, and skips everything else.

    Args:
        content_type: of the request, with its boundary.
        sink: called with the part's bytes, chunk by chunk.

    Raises:
        NoVideoPart: the content type is not that of a form.
    """

    def __init__(self, content_type: str, sink: Callable[[memoryview], None]) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind != b"multipart/form-data" or not boundary:
            raise NoVideoPart("the Content-Type of a multipart body must be multipart/form-data with a boundary")
        self.found = False
        """Whether the video part has begun."""
        self._sink = sink
        self._taking = False
        self._ended = False
        self._parts = 0
        self._header_name = b""
        self._header_value = b""
        self._name = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._part_begins,
                    "on_header_field": self._header_name_arrives,
                    "on_header_value": self._header_value_arrives,
                    "on_header_end": self._header_ends,
                    "on_headers_finished": self._headers_end,
                    "on_part_data": self._data_arrives,
                    "on_part_end": self._part_ends,
                    "on_end": self._form_ends,
                },
                max_header_count=MAX_PART_HEADERS,
                max_header_size=MAX_PART_HEADER_BYTES,
            )
        except FormParserError as error:
            raise NoVideoPart("the boundary of the form is too long") from error

    def feed(self, chunk: bytes) -> None:
        """Parse the next bytes of the form.

        Raises:
            NoVideoPart: the form is malformed.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise NoVideoPart("the form is malformed") from error

    def finish(self) -> None:
        """Check that the form is complete and has a video part.

        Raises:
            NoVideoPart: the form has no video part, or is truncated.
        """
        if not self._ended:
            raise NoVideoPart("the form ends before its closing boundary")
        if not self.found:
            raise NoVideoPart("the form has no part named 'video' or 'file'")

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise NoVideoPart(f"the form has more than {MAX_PARTS} parts")
        self._name = b""
        self._header_name = self._header_value = b""

    def _header_name_arrives(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_arrives(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_ends(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._name = parse_options_header(self._header_value)[1].get(b"name", b"")
        self._header_name = self._header_value = b""

    def _headers_end(self) -> None:
        self._taking = not self.found and self._name in VIDEO_PARTS
        self.found = self.found or self._taking

    def _data_arrives(self, data: bytes, start: int, end: int) -> None:
        if self._taking:
            self._sink(memoryview(data)[start:end])

    def _part_ends(self) -> None:
        self._taking = False

    def _form_ends(self) -> None:
        self._ended = True

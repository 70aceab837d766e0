"""A spool whose bytes arrive in any order: those that the decoder asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adafocus.service.decode.intervals import Intervals
from adafocus.service.decode.spool import Spool


class SparseSpool(Spool):
    """A spool of a known size with holes. Whoever fetches the bytes sets ``on_wanted`` and writes with `write_at`.

    Args:
        size: of the file.
        directory: as for `Spool`.
    """

    is_sparse = True

    def __init__(self, size: int, directory: Path | None = None) -> None:
        super().__init__(directory, expected_bytes=size)
        self.present = Intervals()
        """Which bytes are there."""
        self.on_wanted: Callable[[int, int], None] = lambda start, stop: None
        """Called with a range that a decoder waits for."""

    def covers(self, start: int, stop: int) -> bool:
        """Whether the bytes ``start``..``stop - 1`` are there, as far as the file has them."""
        return self.present.covers(start, min(stop, self.expected_bytes or stop))

    def want(self, start: int, stop: int) -> None:
        """Ask for a range, which will be there later."""
        self.on_wanted(start, stop)

    def write_at(self, position: int, chunk: bytes | memoryview) -> None:
        """Write a chunk at a position of the file.

        Raises:
            OSError: the disk is full.
            ValueError: the spool is closed.
        """
        rest = memoryview(chunk)
        while rest:
            written = self._write_at(position, rest)
            self.present.add(position, position + written)
            position += written
            rest = rest[written:]
        self._tell()

"""What a source of bytes offers to the code that fetches from it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol


class ByteSource(Protocol):
    """A file that is somewhere else. Opened once, read in ranges or from the start, closed once."""

    @property
    def size(self) -> int | None:
        """Size of the file, bytes; None if the source does not tell."""

    @property
    def ranged(self) -> bool:
        """Whether ranges can be read in any order. Otherwise only the whole file, once, from the start."""

    async def open(self) -> None:
        """Find out size and abilities.

        Raises:
            UrlNotAllowed: the address is not permitted.
            SourceUnavailable: the file cannot be read.
        """

    def read(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """The bytes from ``start`` up to ``stop``, or to the end, in chunks as they arrive.

        Raises:
            UrlNotAllowed: a redirect leads to an address that is not permitted.
            SourceUnavailable: the file cannot be read, or has changed since it was opened.
        """

    async def close(self) -> None:
        """Close all connections. May be called again."""

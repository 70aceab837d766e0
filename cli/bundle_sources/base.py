"""What every source of bundles does, and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 1 << 20


class SourceError(Exception):
    """A file cannot be fetched; the message is the end of a sentence."""


class MissingFileError(SourceError):
    """The source has no such file."""


class BundleSource(Protocol):
    """A published bundle, of which files are fetched by their names."""

    def fetch(self, name: str) -> Iterator[bytes]:
        """Yield the content of a file in chunks; the caller bounds how many it takes.

        Raises:
            MissingFileError: there is no such file.
            SourceError: it cannot be fetched.
        """


def shown(url: str) -> str:
    """The URL without a password or a query, which may hold a secret."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment=""))

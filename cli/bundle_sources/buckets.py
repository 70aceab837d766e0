"""Bundles in object stores: the objects under a key of a bucket."""

from __future__ import annotations

from collections.abc import Iterator

from adafocus.cli.bundle_sources.base import CHUNK_BYTES, MissingFileError, SourceError
from adafocus.service.errors import Problem
from adafocus.service.sources.object_source import store_of


class BucketFolder:
    """The objects whose keys begin with that of a URL: ``s3://BUCKET/KEY`` or ``gs://BUCKET/KEY``.

    Raises:
        SourceError: the store cannot be opened, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        try:
            self._store, self._key = store_of(url)
        except Problem as problem:
            raise SourceError(problem.detail) from problem

    def fetch(self, name: str) -> Iterator[bytes]:
        """See `BundleSource`."""
        import obstore

        key = f"{self._key.rstrip('/')}/{name}".lstrip("/")
        try:
            for chunk in obstore.get(self._store, key).stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(chunk)
        except Exception as error:  # noqa: BLE001 - obstore raises classes of several hierarchies
            kind = type(error).__name__
            if kind in ("NotFoundError", "FileNotFoundError"):
                raise MissingFileError(f"there is no object {key!r}") from None
            if kind in ("PermissionDeniedError", "UnauthenticatedError"):
                raise SourceError(f"the store does not permit reading {key!r}; check the credentials") from None
            raise SourceError(f"{key!r} cannot be read ({kind})") from None

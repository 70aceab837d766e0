"""A video in an object store: ``s3://BUCKET/KEY`` or ``gs://BUCKET/KEY``.

Credentials, region and endpoint come from the environment, as the stores' own tools read them. Only the command line
opens these sources: the service would lend its own credentials to whoever asks.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from adafocus.service.errors import SourceUnavailable, UrlNotAllowed

if TYPE_CHECKING:
    from obstore.store import ObjectStore

SCHEMES = ("s3", "gs")
_CHUNK_BYTES = 1 << 16
_NO_EXTRA = "s3:// and gs:// need the package 'obstore'; install it with: pip install 'adafocus[cloud]'"


class ObjectSource:
    """Reads an object in ranges, each on condition that the object is still the same.

    Args:
        url: of the object.

    Raises:
        UrlNotAllowed: the URL names no object of a known store, or the package for it is not installed.
    """

    def __init__(self, url: str) -> None:
        self._store, self._key = store_of(url)
        if not self._key:
            raise UrlNotAllowed("the URL names a bucket and no object in it")
        self._etag: str | None = None
        self.size: int | None = None
        self.ranged = True

    async def open(self) -> None:
        """Ask for the object's size and version."""
        import obstore

        try:
            told = await obstore.head_async(self._store, self._key)
        except Exception as error:  # noqa: BLE001 - obstore raises classes of several hierarchies
            raise _problem(error) from None
        self.size, self._etag = told["size"], told["e_tag"]

    async def read(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """The bytes from ``start`` up to ``stop``, or to the end."""
        import obstore

        stop = self.size if stop is None else stop
        if stop is None or start >= stop:
            return
        try:
            answer = await obstore.get_async(
                self._store, self._key, options={"range": (start, stop), "if_match": self._etag}
            )
            if (answer.meta["size"], answer.meta["e_tag"]) != (self.size, self._etag):
                raise SourceUnavailable("the object changed while it was read")
            received = 0
            async for chunk in answer.stream(_CHUNK_BYTES):
                received += len(chunk)
                yield bytes(chunk)
        except SourceUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - as in `open`
            raise _problem(error) from None
        if received != stop - start:
            raise SourceUnavailable("the store sent another number of bytes than it was asked for")

    async def close(self) -> None:
        """Do nothing: the connections belong to the store, which closes them when it is not used any more."""


def store_of(url: str) -> tuple[ObjectStore, str]:
    """The store of a bucket, and the key of the object in it, or the beginning of keys.

    Raises:
        UrlNotAllowed: the URL names no bucket of a known store, or the package for it is not installed.
    """
    try:
        from obstore.store import from_url
    except ImportError:
        raise UrlNotAllowed(_NO_EXTRA) from None
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES or not parts.netloc:
        raise UrlNotAllowed("an object is named as s3://BUCKET/KEY or gs://BUCKET/KEY")
    try:
        return from_url(f"{parts.scheme}://{parts.netloc}"), unquote(parts.path.lstrip("/"))
    except Exception as error:  # noqa: BLE001 - as in `ObjectSource.open`
        raise UrlNotAllowed(f"the object store cannot be opened: {_first_line(error)}") from None


def keys_under(url: str) -> Iterator[str]:
    """URLs of all objects whose keys begin with that of a URL that ends in ``/``.

    Raises:
        UrlNotAllowed: as `store_of`.
        SourceUnavailable: the bucket cannot be listed.
    """
    import obstore

    store, prefix = store_of(url)
    parts = urlsplit(url)
    try:
        for chunk in obstore.list(store, prefix or None):
            yield from (f"{parts.scheme}://{parts.netloc}/{told['path']}" for told in chunk)
    except Exception as error:  # noqa: BLE001 - as in `ObjectSource.open`
        raise _problem(error) from None


def _problem(error: Exception) -> SourceUnavailable:
    """The problem for an error of the store, in one line."""
    kind = type(error).__name__
    if kind in ("NotFoundError", "FileNotFoundError"):
        return SourceUnavailable("there is no such object")
    if kind == "PreconditionError":
        return SourceUnavailable("the object changed while it was read")
    if kind in ("PermissionDeniedError", "UnauthenticatedError"):
        return SourceUnavailable("the store does not permit reading the object; check the credentials")
    return SourceUnavailable(f"the object cannot be read ({kind})")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""Reads a request's body into a spool, up to a limit in bytes."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable

from adafocus.service.decode.multipart import VideoPart
from adafocus.service.decode.spool import Spool
from adafocus.service.errors import MACHINE_ERRORS, EmptyBody, Internal, Overloaded, Problem, TooLarge, Unavailable

__all__ = ["Spool", "open_spool", "receive"]

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM})
"""All requests share the space for uploads, so these errors are temporary."""


def open_spool(expected_bytes: int | None = None, at_most_bytes: int | None = None) -> Spool:
    """Create a spool, which the caller must close; the arguments are those of `Spool`.

    Raises:
        Overloaded: there is no space for it.
        Internal: it could not be created for another reason.
    """
    try:
        return Spool(expected_bytes=expected_bytes, at_most_bytes=at_most_bytes)
    except OSError as error:
        raise not_stored(error) from error


async def receive(
    chunks: AsyncIterator[bytes],
    *,
    content_type: str | None,
    max_bytes: int,
    spool: Spool,
) -> None:
    """Read a body into a spool: all of it, or the video part of a form (the first named ``video`` or ``file``).

    A decoder may read the spool while this runs. If this fails, the spool fails with the same error.

    Args:
        chunks: the body as it arrives; it is not read beyond the limit.
        content_type: ``multipart/…`` declares a form; any other type, or None, means raw bytes.
        max_bytes: limit for the whole body, including the form's other parts.
        spool: an empty spool; it is complete when this returns.

    Raises:
        EmptyBody: the body, or the video part, holds no bytes.
        NoVideoPart: the form has no video part, or cannot be parsed.
        TooLarge: the body is larger than ``max_bytes``.
        Overloaded: there is no space to store the bytes.
        Internal: the bytes could not be stored for another reason.
    """
    try:
        await _receive(chunks, content_type, max_bytes, spool)
    except Problem as problem:
        spool.fail(problem)
        raise
    except BaseException:  # for example the client disconnected: a session must not wait for more bytes
        spool.fail(Internal())
        raise


async def _receive(chunks: AsyncIterator[bytes], content_type: str | None, max_bytes: int, spool: Spool) -> None:
    feed: Callable[[bytes], None] = spool.write
    form: VideoPart | None = None
    if content_type is not None and content_type.strip().lower().startswith("multipart/"):
        form = VideoPart(content_type, spool.write)
        feed = form.feed
    received = 0
    async for chunk in chunks:
        received += len(chunk)
        if received > max_bytes:
            raise TooLarge(f"the body is larger than the limit of {max_bytes} bytes")
        try:
            feed(chunk)
        except OSError as error:
            raise not_stored(error) from error
    if not received:
        raise EmptyBody("the body is empty; send a video as the whole body, or as a form part named 'video'")
    if form is not None:
        form.finish()
    if not spool.size:
        raise EmptyBody("the video part of the form is empty")
    spool.finish()


def not_stored(error: OSError) -> Problem:
    """The problem when an upload cannot be stored."""
    if error.errno in _NO_SPACE:
        return Overloaded("there is no space to store the upload at the moment")
    return Unavailable() if error.errno in MACHINE_ERRORS else Internal()

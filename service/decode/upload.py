"""From a request's body to a spool: bounded in bytes, whatever the client sends."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Callable

from service.decode.multipart import VideoPart
from service.decode.spool import Spool
from service.errors import EmptyBody, Internal, Overloaded, Problem, TooLarge

__all__ = ["Spool", "open_spool", "receive"]

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
"""The space for uploads is shared by all who are being served: it will be free again."""


def open_spool(expected_bytes: int | None = None) -> Spool:
    """A new spool, for the caller to close.

    Raises:
        Overloaded: there is no room for one.
        Internal: it could not be made for another reason.
    """
    try:
        return Spool(expected_bytes=expected_bytes)
    except OSError as error:
        raise _not_stored(error) from error


async def receive(
    chunks: AsyncIterator[bytes],
    *,
    content_type: str | None,
    max_bytes: int,
    spool: Spool,
) -> None:
    """Read a body into a spool: as it is, or the video part of a form (``video`` or ``file``, the first counts).

    The spool may be given to a decoder while this runs; if this fails, the spool fails with the same error.

    Args:
        chunks: the body as it arrives; read no further than the limit.
        content_type: declares a form if it is ``multipart/…``; any other, or none, means raw bytes.
        max_bytes: of the whole body, the form's other parts included.
        spool: empty; complete when this returns.

    Raises:
        EmptyBody: the body, or the video part, holds no bytes.
        NoVideoPart: a form without a video part, or one that cannot be parsed.
        TooLarge: more than ``max_bytes``.
        Overloaded: there is no room to store the bytes.
        Internal: they could not be stored for another reason.
    """
    try:
        await _receive(chunks, content_type, max_bytes, spool)
    except Problem as problem:
        spool.fail(problem)
        raise
    except BaseException:  # the client left, say: not our error to report, but nobody shall wait for more bytes
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
            raise _not_stored(error) from error
    if not received:
        raise EmptyBody("the body is empty; send a video as the whole body, or as a form part named 'video'")
    if form is not None:
        form.finish()
    if not spool.size:
        raise EmptyBody("the video part of the form is empty")
    spool.finish()


def _not_stored(error: OSError) -> Problem:
    if error.errno in _NO_ROOM:
        return Overloaded("there is no space to store the upload at the moment")
    return Internal()

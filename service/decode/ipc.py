"""The protocol between the service and a decode worker: small JSON messages over a Unix SEQPACKET socket.

    service → worker                              worker → service
    job     what to decode, with a descriptor     ready   once, from inside the sandbox
    more    bytes that have arrived               opened  what the video is
    free    a slot whose frame was taken          frame   a slot that now holds a frame
    close   stop decoding this job                need    waits for bytes that ``more`` announces
    forget  close a video that is kept open       done    the job has ended, with or without an error

Every job ends with exactly one ``done``; until then the worker accepts no other job. A worker that waits for a slot has
said all it has to say, so a ``close`` that is ``silent`` is not answered: the next job may follow at once. The worker
ignores messages about a job that arrive after its end. It ends when the socket is closed.

A job says whether its spool is sparse. Then ``need`` has a ``start``, and ``more`` says which range has arrived.

A job for a window of a long video leaves the video open for the job of the next window. The next job for another video
closes it, and so does ``forget``.

A worker may send several messages together, one a line: a frame often comes with the one after it, or with ``done``.

Messages are JSON and never pickle, because a worker that has parsed a hostile file cannot be trusted. This module uses
the standard library only, because the worker imports it.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

MAX_MESSAGE_BYTES = 1 << 16
"""Several times the size of a job with the longest visiting order."""

MAX_TIME_SECONDS = 1e9
"""Largest time of a frame, before or after the first one."""

OUT_OF_MEMORY = "memory"
"""Code of a ``done`` whose job reached the memory limit; the worker ends after it."""

MEMORY_REFUSED = "memory_refused"
"""Code of a ``done`` whose job asked for more memory than there may be and got none of it; the worker stays."""

FAULT = "internal"
"""Code of a ``done`` whose job failed because of a bug of ours; its detail goes to the log only."""


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Create both ends of a control connection. SEQPACKET: a message arrives whole or not at all."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode(message: Mapping[str, object]) -> bytes:
    """Encode a message as bytes.

    Raises:
        ValueError: it is too long, or holds a number that JSON cannot represent.
    """
    data = _ENCODER.encode(message).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message must have at most {MAX_MESSAGE_BYTES} bytes, got {len(data)}")
    return data

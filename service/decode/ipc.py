"""How the service and a decode worker talk: small JSON messages over a Unix socket that keeps their bounds.

    service → worker                              worker → service
    job     what to decode, with a descriptor     ready   once, from inside the sandbox
    more    bytes that have arrived               opened  what the video is
    free    a slot whose frame was taken          frame   a slot that now holds a frame
    close   nobody wants the rest                 need    bytes not yet there; blocks until ``more``
                                                  done    the job has ended, with an error or without

Every job ends with exactly one ``done``; until then the worker takes no other. What arrives at the worker after it
has said ``done`` belongs to the past and is ignored. The end of the socket is the end of the worker.

JSON and never pickle: a worker that has parsed a hostile file is itself not to be trusted. Standard library only: the
worker imports this.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping

MAX_MESSAGE_BYTES = 1 << 16
"""A job with the longest visiting order fits several times."""

OUT_OF_MEMORY = "memory"
"""Code of a ``done`` whose job met the memory limit; the worker leaves after it."""

FAULT = "internal"
"""Code of a ``done`` whose job met a fault of ours; its detail is for the log and for nobody else."""


_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a control connection. SEQPACKET: a message arrives whole or not at all."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def encode(message: Mapping[str, object]) -> bytes:
    """A message as bytes.

    Raises:
        ValueError: it is too long, or holds a number that JSON does not know.
    """
    data = _ENCODER.encode(message).encode()
    if len(data) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(data)} bytes; at most {MAX_MESSAGE_BYTES} are permitted")
    return data

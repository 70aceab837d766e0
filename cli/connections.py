"""Limits on connections: in all, so that descriptors never run out, and of one caller.

A connection costs a descriptor, and a process that has none left can neither accept nor open a file. So there are fewer
connections than descriptors. When they are all taken, the one that makes way is idle and belongs to the caller that
holds most.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import Counter
from contextlib import suppress
from typing import Any, Protocol

from adafocus.service.http.callers import caller_at

MOST_DESCRIPTORS = 1 << 16
MOST_CONNECTIONS = 8192

_BODY = (
    b'{"type":"urn:adafocus:problem:overloaded","title":"Overloaded","status":503,'
    b'"detail":"there are too many connections","code":"overloaded"}'
)
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(_BODY), _BODY)
)
"""What a connection is sent that cannot be kept."""

logger = logging.getLogger("adafocus.connections")


class Connection(Protocol):
    """One connection, as the limit sees it."""

    @property
    def idle(self) -> bool:
        """Whether no request is being answered on it."""

    def close(self) -> None:
        """Close it."""


class ConnectionLimit:
    """Which connections are kept.

    Args:
        most: connections at once.
        most_of_one: of one caller.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self.most = most
        self.most_of_one = most_of_one
        self._held: dict[Connection, str] = {}  # the oldest first
        self._of: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, connection: Connection, host: str) -> bool:
        """Keep a new connection, for which an idle one may have to close; False if it cannot be kept."""
        caller = caller_at(host)
        if self._of[caller] >= self.most_of_one and not self._close_idle(caller):
            self._report("a caller has too many connections", caller)
            return False
        if len(self._held) >= self.most and not self._close_idle(max(self._of, key=lambda name: self._of[name])):
            self._report("there are too many connections", caller)
            return False
        self._held[connection] = caller
        self._of[caller] += 1
        return True

    def release(self, connection: Connection) -> None:
        """Forget a connection that has ended. May be called again."""
        caller = self._held.pop(connection, None)
        if caller is not None:
            self._of[caller] -= 1
            if not self._of[caller]:
                del self._of[caller]

    def _close_idle(self, caller: str) -> bool:
        """Close the oldest idle connection of a caller; False if none is idle."""
        idle = next((held for held, name in self._held.items() if name == caller and held.idle), None)
        if idle is None:
            return False
        self.release(idle)
        idle.close()
        return True

    def _report(self, message: str, caller: str) -> None:
        logger.warning(message, extra={"fields": {"caller": caller, "connections": len(self)}})


class LimitedProtocol(asyncio.Protocol):
    """To be mixed into uvicorn's protocols, before them: each connection counts against a limit.

    Class attribute ``limit``: shared by all connections of the server; None for none.
    """

    limit: ConnectionLimit | None = None
    _kept = True
    transport: Any
    cycle: Any

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or bool(self.cycle.response_complete)

    def close(self) -> None:
        """Close the connection."""
        self.transport.close()

    def connection_made(self, transport: Any) -> None:
        """Keep the connection, or refuse it."""
        peer = transport.get_extra_info("peername")
        host = str(peer[0]) if isinstance(peer, tuple) else ""
        if self.limit is None or self.limit.take(self, host):
            super().connection_made(transport)
            return
        self._kept = False
        with suppress(OSError):
            transport.write(REFUSAL)
        transport.close()

    def data_received(self, data: bytes) -> None:
        """Take in what has arrived, unless the connection is refused."""
        if self._kept:
            super().data_received(data)

    def eof_received(self) -> bool | None:
        """The client sends no more."""
        return super().eof_received() if self._kept else None

    def connection_lost(self, exc: Exception | None) -> None:
        """Let another connection have its place."""
        if self.limit is not None:
            self.limit.release(self)
        if self._kept:
            super().connection_lost(exc)


def raise_descriptor_limit() -> int:
    """Permit this process as many descriptors as the system allows, within reason; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            return wanted
    return MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def connections_for(descriptors: int) -> int:
    """How many connections leave enough descriptors for uploads, decoders and files."""
    return max(8, min(MOST_CONNECTIONS, descriptors // 2))

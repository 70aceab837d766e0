"""Where an RTSP camera is, and a connection to exactly there."""

from __future__ import annotations

import asyncio
import re
import socket
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit, urlunsplit

from adafocus.service.live.rtsp_authentication import Credentials

SCHEMES = ("rtsp", "rtsps")
_PORTS = {"rtsp": 554, "rtsps": 322}
_CONNECT_SECONDS = 10.0
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class RtspAddress:
    """A stream of a camera.

    Attributes:
        host: name or numeric address.
        port: of TCP.
        url: without credentials.
        credentials: those of the URL.
        tls: whether the connection is encrypted.
    """

    host: str
    port: int
    url: str
    credentials: Credentials | None
    tls: bool


def parse_address(url: str) -> RtspAddress:
    """Parse an rtsp or rtsps URL.

    Raises:
        ValueError: it is not one. The text does not repeat the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is not a valid URL") from None
    if parts.scheme not in SCHEMES:
        raise ValueError(f"the scheme of the URL must be rtsp or rtsps, got {parts.scheme[:20]!r}")
    if not parts.hostname or _FORBIDDEN.search(url):
        raise ValueError("the URL must name a host and hold no spaces")
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))
    credentials = None
    if parts.username is not None:
        credentials = Credentials(unquote(parts.username), unquote(parts.password or ""))
    return RtspAddress(parts.hostname, port or _PORTS[parts.scheme], plain, credentials, parts.scheme == "rtsps")


async def dial(address: RtspAddress) -> socket.socket:
    """Open a connection to a camera.

    Raises:
        OSError: it cannot be resolved, or no address of it answers in time.
    """
    loop = asyncio.get_running_loop()
    failure: OSError = OSError("the host has no address")
    async with asyncio.timeout(_CONNECT_SECONDS):
        found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, where in found:
            connection = socket.socket(family, kind | socket.SOCK_NONBLOCK, protocol)
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                await loop.sock_connect(connection, where)
            except OSError as error:
                failure = error
                connection.close()
            except BaseException:  # cancelled
                connection.close()
                raise
            else:
                return connection
    raise failure

"""Opens connections to addresses that were checked: the name is resolved once, and what was checked is dialled."""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpcore

from adafocus.service.errors import SourceUnavailable, UrlNotAllowed
from adafocus.service.sources.addresses import is_public, parse

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and a port to numeric addresses."""

SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


@functools.cache
def client_context() -> ssl.SSLContext:
    """Trust the system's authorities, Mozilla's, and those in the file that ``SSL_CERT_FILE`` names.

    One context serves all connections, because reading the authorities takes some ten milliseconds of processor time,
    during which an event loop serves nobody.
    """
    return httpcore.default_ssl_context()


async def resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a host, as the system resolves it.

    Raises:
        OSError: there is none.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class CheckedNetwork(httpcore.AsyncNetworkBackend):
    """Dials only addresses that may be dialled. A host with any other address is refused as a whole.

    Args:
        private: whether addresses that are not global may be dialled.
        network: opens the connections; tests pass their own.
        resolver: resolves names; tests pass their own.
    """

    def __init__(
        self,
        *,
        private: bool,
        network: httpcore.AsyncNetworkBackend | None = None,
        resolver: Resolve = resolve,
    ) -> None:
        self._private = private
        self._network = network or httpcore.AnyIOBackend()
        self._resolve = resolver

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, check and dial a host; TLS still checks the certificate against the host's name.

        Raises:
            UrlNotAllowed: an address is not permitted.
            SourceUnavailable: the host cannot be resolved.
            httpcore.ConnectError: no address answers.
            httpcore.ConnectTimeout: no address answers in time.
        """
        addresses = await self._addresses(host, port, timeout)
        failure: Exception | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = failure or error
        raise failure or httpcore.ConnectError("the host has no address")

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no URL leads to a socket of this machine.

        Raises:
            UrlNotAllowed: always.
        """
        raise UrlNotAllowed("a URL must not lead to a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._network.sleep(seconds)

    async def _addresses(self, host: str, port: int, seconds: float | None) -> Sequence[str]:
        try:
            async with asyncio.timeout(seconds):
                addresses = await self._resolve(host, port)
        except (OSError, UnicodeError, TimeoutError):
            raise SourceUnavailable(f"the host {host[:100]!r} cannot be resolved") from None
        if not self._private:
            for address in addresses:
                if not _is_public(address):
                    raise UrlNotAllowed(f"the host {host[:100]!r} resolves to an address that is not public")
        return addresses


def _is_public(address: str) -> bool:
    try:
        return is_public(parse(address))
    except ValueError:
        return False

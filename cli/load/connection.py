"""The address of the service, and a non-blocking connection to it that carries one request at a time.

Plain sockets instead of an HTTP library: a load generator shares its machine with what it measures, and a general
client costs several milliseconds of processor time a request.
"""

from __future__ import annotations

import base64
import errno
import os
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

from adafocus.cli.load.plan import Plan
from adafocus.cli.load.response import Response, ResponseReader

TIMEOUT_SECONDS = 60.0
"""Time without a byte in either direction after which a request counts as not answered."""

_RECEIVE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that accepted a connection, and how to speak to it.

    Attributes:
        family: of the address.
        address: as `socket.socket.connect` takes it.
        host: name for the ``Host`` header, with its port if it is not the scheme's.
        path: of ``/classify``, as it is sent.
        authorization: from a name and password in the URL.
        server_name: that the certificate must carry.
        tls: None for plain HTTP.
    """

    family: int
    address: Any  # its shape depends on the family
    host: str
    path: str
    authorization: str | None
    server_name: str
    tls: ssl.SSLContext | None

    @classmethod
    def find(cls, url: str) -> Endpoint:
        """Look a URL up and take the first of its addresses that accepts a connection.

        Raises:
            OSError: none does, or the name is unknown.
            ValueError: it is not a URL, or its port is not a number up to 65535.
        """
        parts = urlsplit(url)
        tls = parts.scheme == "https"
        name, port = parts.hostname or "", parts.port or (443 if tls else 80)
        login = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
            login = f"Basic {base64.b64encode(pair).decode()}"
        host = parts.netloc.rpartition("@")[2].encode("idna" if ":" not in name else "ascii").decode()
        with socket.create_connection((name, port), timeout=TIMEOUT_SECONDS) as probe:
            return cls(
                family=probe.family,
                address=probe.getpeername(),
                host=host,
                path=quote(parts.path.rstrip("/"), safe="/%:@!$&'()*+,;=~") + "/classify",
                authorization=login,
                server_name=name,
                tls=ssl.create_default_context() if tls else None,
            )

    def requests(self, plan: Plan) -> list[bytes]:
        """The whole request of each clip, made once."""
        target = self.path + (f"?{urlencode(plan.parameters)}" if plan.parameters else "")
        login = self.authorization if plan.key is None else f"Bearer {plan.key}"
        fields = [f"Host: {self.host}", "Accept: */*", "User-Agent: adafocus-bench"]
        fields += [f"Authorization: {login}"] if login else []
        head = "\r\n".join([f"POST {target} HTTP/1.1", *fields, "Content-Length: "])
        return [f"{head}{len(clip)}\r\n\r\n".encode() + clip for clip in plan.clips]


class Connection:
    """One connection to the service. Call `advance` when the selector says so, or when a request has been given.

    Args:
        endpoint: to connect to.

    Raises:
        OSError: no connection can be started.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        plain = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            plain.setblocking(False)
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            started = plain.connect_ex(endpoint.address)
            if started not in (0, errno.EINPROGRESS):
                raise OSError(started, os.strerror(started))
        except BaseException:
            plain.close()
            raise
        self._socket: socket.socket | ssl.SSLSocket = plain
        self._endpoint = endpoint
        self._connecting = True
        self._handshaking = endpoint.tls is not None
        self._unsent = memoryview(b"")
        self._send_error: OSError | None = None
        self._reader: ResponseReader | None = None
        self._early: Response | None = None
        self.events = EVENT_READ | EVENT_WRITE
        """The selector events to wait for."""

    def fileno(self) -> int:
        """The socket's descriptor, for the selector."""
        return self._socket.fileno()

    @property
    def idle(self) -> bool:
        """True if it carries no request."""
        return self._reader is None

    def close(self) -> None:
        """Close it, whatever it carries."""
        self._socket.close()

    def send(self, request: bytes) -> None:
        """Give it the next request; only while it is idle."""
        self._unsent = memoryview(request)
        self._send_error = None
        self._reader = ResponseReader()

    def advance(self, events: int) -> Response | None:
        """Go on as far as possible without waiting; the response, once it is complete.

        Args:
            events: that the selector saw; 0 directly after `send`.

        Raises:
            OSError: the connection failed.
            ResponseError: the server sent something else, or left before it had answered.
        """
        if not self._connected(events):
            return None
        self.events = EVENT_READ
        if self._unsent:
            self._send_on()
        # TLS may hold data that the selector cannot see.
        if events & EVENT_READ or self._endpoint.tls or self._send_error or (self._early and not self._unsent):
            return self._receive()
        return None

    def _connected(self, events: int) -> bool:
        if self._connecting:
            if not events:
                return False
            failed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if failed:
                raise OSError(failed, os.strerror(failed))
            self._connecting = False
            if self._endpoint.tls is not None:
                self._socket = self._endpoint.tls.wrap_socket(
                    self._socket, server_hostname=self._endpoint.server_name, do_handshake_on_connect=False
                )
        if self._handshaking and isinstance(self._socket, ssl.SSLSocket):
            try:
                self._socket.do_handshake()
            except ssl.SSLWantReadError:
                self.events = EVENT_READ
                return False
            except ssl.SSLWantWriteError:
                self.events = EVENT_WRITE
                return False
            self._handshaking = False
        return True

    def _send_on(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            self.events = EVENT_READ | EVENT_WRITE
        except ssl.SSLWantReadError:
            pass
        except OSError as error:  # a server that refuses early may close; its response is there to be read
            self._unsent = memoryview(b"")
            self._send_error = error

    def _receive(self) -> Response | None:
        reader, response = self._reader, self._early
        while response is None:
            try:
                data = self._socket.recv(_RECEIVE_BYTES)
            except (BlockingIOError, ssl.SSLWantReadError):
                if self._send_error is not None:
                    raise self._send_error from None
                return None
            except ssl.SSLWantWriteError:
                self.events = EVENT_READ | EVENT_WRITE
                return None
            if reader is None:
                raise ConnectionResetError("the server closed an idle connection")
            response = reader.feed(data) if data else reader.end()
        if self._unsent and response.reusable:  # a refusal: the connection is of use again once the rest is sent
            self._early = response
            return None
        self._reader = self._early = None
        if self._send_error is None and not self._unsent:
            return response
        return Response(response.status, response.body, reusable=False)


def close_all(connections: list[Connection]) -> None:
    """Close connections, of which some may be broken."""
    for connection in connections:
        with suppress(OSError):
            connection.close()

"""HTTP servers on loopback that behave well, badly or with malice, and a recorder of what is dialled."""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import httpcore

Handle = Callable[["Request", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Request:
    """The head of a request."""

    path: str
    headers: Mapping[str, str]

    @property
    def range(self) -> tuple[int, int] | None:
        """First and last byte asked for."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("range", ""))
        return None if found is None else (int(found[1]), int(found[2]))


@dataclass
class Server:
    """A server that runs."""

    port: int
    requests: list[Request] = field(default_factory=list)
    scheme: str = "http"

    def url(self, path: str = "/clip.mp4", host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"


@contextlib.asynccontextmanager
async def serving_http(handle: Handle, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve on loopback; one request for each connection is answered by ``handle``, which writes raw bytes."""
    running: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                pairs = (line.split(": ", 1) for line in lines if line)
                request = Request(first.split(" ")[1], {name.lower(): value for name, value in pairs})
                server.requests.append(request)
                await handle(request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client has left, or the server ends
        finally:
            running.discard(task)
            writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server = Server(listener.sockets[0].getsockname()[1], scheme="http" if tls is None else "https")
    try:
        yield server
    finally:
        listener.close()
        for task in tuple(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def head(status: int, length: int | None = None, **headers: str) -> bytes:
    """The head of a response."""
    lines = [f"HTTP/1.1 {status} Whatever"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def files(content: Mapping[str, bytes], *, ranges: bool = True, etag: str = '"1"') -> Handle:
    """A well-behaved server of files."""

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        data = content.get(request.path.partition("?")[0])
        if data is None:
            writer.write(head(404, 0))
        elif ranges and request.range is not None and request.headers.get("if-range", etag) == etag:
            first, last = request.range[0], min(request.range[1], len(data) - 1)
            told = f"bytes {first}-{last}/{len(data)}"
            writer.write(head(206, last + 1 - first, Content_Range=told, ETag=etag) + data[first : last + 1])
        else:
            writer.write(head(200, len(data), ETag=etag) + data)

    return handle


@dataclass
class RecordingNetwork(httpcore.AsyncNetworkBackend):
    """Opens no connection, or only to one port of loopback; records every address that was to be dialled."""

    port: int | None = None
    dialled: list[tuple[str, int]] = field(default_factory=list)

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        local_address: str | None = None,
        socket_options: Iterable[object] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        self.dialled.append((host, port))
        if self.port is None:
            raise httpcore.ConnectError("nothing is connected in this test")
        return await httpcore.AnyIOBackend().connect_tcp("127.0.0.1", self.port, timeout)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109 - the interface of httpcore
        socket_options: Iterable[object] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        raise AssertionError("no socket of this machine may be opened")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class Resolver:
    """Resolves names from a table; with several answers for a name, another one each time."""

    answers: Mapping[str, Sequence[Sequence[str]]]
    asked: list[str] = field(default_factory=list)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        answers = self.answers[host]
        self.asked.append(host)
        return answers[min(self.asked.count(host), len(answers)) - 1]

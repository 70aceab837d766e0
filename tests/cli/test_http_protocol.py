"""Both protocols hold the same bounds, over real sockets and with an application that only says what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from adafocus.cli.http_protocol import MAX_HEAD_BYTES, H11HeaderTimeoutProtocol, http_protocol

pytest.importorskip("httptools")

SECONDS = 20
PROTOCOLS: dict[str, Callable[[float], type[asyncio.Protocol]]] = {
    "httptools": http_protocol,
    "h11": lambda seconds: type("Protocol", (H11HeaderTimeoutProtocol,), {"head_seconds": seconds}),
}


class QuietServer(uvicorn.Server):
    """Leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class App:
    """Answers with what it saw of a request; `/early` answers before it reads the body, `/wait` waits for an end."""

    def __init__(self) -> None:
        self.left = asyncio.Event()
        self.waiting = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", scope["path"] != "/early"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.left.set()
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if scope["path"] == "/wait":
            self.waiting.set()
            await receive()
            self.left.set()
            return
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        told = json.dumps({"method": scope["method"], "path": scope["path"], "body": len(body), "headers": headers})
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", str(len(told)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": told.encode()})


@asynccontextmanager
async def serving(protocol: type[asyncio.Protocol]) -> AsyncIterator[tuple[App, int]]:
    app = App()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False)
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0)
    try:
        yield app, listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task


@pytest.fixture(params=PROTOCOLS)
def protocol(request: pytest.FixtureRequest) -> Callable[[float], type[asyncio.Protocol]]:
    return PROTOCOLS[request.param]


async def exchange(port: int, *pieces: bytes, end: bool = False) -> bytes:
    """Send pieces and read until the server closes, or until a first response is there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        async with asyncio.timeout(SECONDS):
            while more := await reader.read(1 << 16):
                answer += more
                if not end and b"\r\n\r\n" in answer and b"close" not in answer.lower():
                    break
    except ConnectionError:
        pass
    finally:
        writer.close()
    return answer


def told(answer: bytes) -> dict[str, object]:
    assert answer.startswith(b"HTTP/1.1 200"), answer
    seen: dict[str, object] = json.loads(answer.split(b"\r\n\r\n", 1)[1])
    return seen


GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
POST = b"POST /a HTTP/1.1\r\nHost: h\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "body"),
    [
        (GET, 0),
        (POST + b"Content-Length: 5\r\n\r\nhello", 5),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", 5),
        (POST + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000, 200_000),
        (POST + b"Cookie: " + b"c" * 60_000 + b"\r\nContent-Length: 1\r\n\r\nx", 1),
        (POST + b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nhello", 5),
        (b"GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 0),
    ],
    ids=["get", "length", "chunked", "large", "large head", "upgrade with a body", "upgrade"],
)
@pytest.mark.parametrize("cut", [None, 1, 40])
async def test_requests_are_understood_however_they_are_cut(
    protocol: Callable[[float], type[asyncio.Protocol]], request_bytes: bytes, body: int, cut: int | None
) -> None:
    pieces = [request_bytes] if cut is None else [request_bytes[:cut], request_bytes[cut:]]
    async with serving(protocol(SECONDS)) as (_, port):
        assert told(await exchange(port, *pieces))["body"] == body


REFUSED = {
    "both lengths": POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "a length that is none": POST + b"Content-Length: five\r\n\r\n",
    "a negative length": POST + b"Content-Length: -1\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: gzip\r\n\r\n",
    "a chunk that is none": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "no host": b"GET /a HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a space before the colon": b"GET /a HTTP/1.1\r\nHost : h\r\n\r\n",
    "a control character": b"GET /a HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "an endless target": b"GET /" + b"a" * (MAX_HEAD_BYTES + 200_000),
    "an endless header": b"GET /a HTTP/1.1\r\nHost: h\r\nX: " + b"a" * (MAX_HEAD_BYTES + 200_000),
    "endless headers": b"GET /a HTTP/1.1\r\nHost: h\r\n" + b"X: a\r\n" * 60_000,
    "an endless trailer": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX: " + b"a" * (MAX_HEAD_BYTES + 300_000),
    "endless trailers": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 80_000,
}


@pytest.mark.parametrize("request_bytes", REFUSED.values(), ids=REFUSED)
async def test_what_is_malformed_ambiguous_or_endless_is_refused_and_the_connection_closed(
    protocol: Callable[[float], type[asyncio.Protocol]], request_bytes: bytes
) -> None:
    async with serving(protocol(SECONDS)) as (app, port):
        pieces = [request_bytes[start : start + 9000] for start in range(0, len(request_bytes), 9000)]
        answer = await exchange(port, *pieces, end=True)
        assert b" 200 " not in answer
        if len(request_bytes) < 9000:
            assert answer.startswith(b"HTTP/1.1 400"), "a client that has sent all reads why"
        assert not app.waiting.is_set()


async def test_trailers_are_no_headers(protocol: Callable[[float], type[asyncio.Protocol]]) -> None:
    async with serving(protocol(SECONDS)) as (_, port):
        request = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-API-Key: sesame\r\n\r\n"
        seen = told(await exchange(port, request))
        assert seen["body"] == 1
        assert "x-api-key" not in json.dumps(seen)


@pytest.mark.parametrize("begun", [b"", b"GET /a HTT", b"GET /a HTTP/1.1\r\nHost: h\r\n"])
async def test_a_head_that_does_not_come_ends_the_connection(
    protocol: Callable[[float], type[asyncio.Protocol]], begun: bytes
) -> None:
    async with serving(protocol(0.2)) as (_, port):
        assert await exchange(port, begun, end=True) == b""


async def test_a_head_that_trickles_ends_the_connection(protocol: Callable[[float], type[asyncio.Protocol]]) -> None:
    async with serving(protocol(0.3)) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET[:-2])
        ended = asyncio.create_task(reader.read())
        async with asyncio.timeout(SECONDS):
            while not ended.done():
                writer.write(b"X: 1\r\n")
                await asyncio.sleep(0.02)
        assert ended.exception() is not None or ended.result() == b""
        writer.close()


async def test_the_time_limit_is_for_the_head_only_and_for_each_one(
    protocol: Callable[[float], type[asyncio.Protocol]],
) -> None:
    async with serving(protocol(0.3)) as (app, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            await app.waiting.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.8)  # longer than a head may take
        writer.close()
        answer = await exchange(port, GET, end=True)  # keeps the connection, and says nothing more
        assert answer.count(b"HTTP/1.1 200") == 1


async def test_two_requests_in_one_piece_are_answered_in_order(
    protocol: Callable[[float], type[asyncio.Protocol]],
) -> None:
    async with serving(protocol(SECONDS)) as (_, port):
        last = b"GET /b HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
        posts = [
            POST + extra + b"Content-Length: 2\r\n\r\nhi" for extra in (b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n")
        ]
        answer = await exchange(port, GET + b"".join(posts) + last, end=True)
        assert [part.split(b'"')[0] for part in answer.split(b'"path": "')[1:]] == [b"/a", b"/a", b"/a", b"/b"]


async def test_a_request_is_told_that_its_client_left_even_with_another_behind_it(
    protocol: Callable[[float], type[asyncio.Protocol]],
) -> None:
    async with serving(protocol(SECONDS)) as (app, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /wait HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        async with asyncio.timeout(SECONDS):
            await app.waiting.wait()
            writer.transport.abort()
            await app.left.wait()


async def test_who_waits_to_be_invited_is_invited_when_the_body_is_read(
    protocol: Callable[[float], type[asyncio.Protocol]],
) -> None:
    async with serving(protocol(SECONDS)) as (_, port):
        for path, first in ((b"/a", b"HTTP/1.1 100"), (b"/early", b"HTTP/1.1 200")):
            request = b"POST %b HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n" % path
            assert (await exchange(port, request)).startswith(first)


def test_h11_serves_where_httptools_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("adafocus.cli.http_protocol.find_spec", lambda name: None)
    assert issubclass(http_protocol(5.0), H11HeaderTimeoutProtocol)

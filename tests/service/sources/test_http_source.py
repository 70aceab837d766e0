"""Reading URLs from servers on loopback: good ones, and all kinds of hostile ones."""

from __future__ import annotations

import asyncio
import gzip
import logging
import random
from collections.abc import Iterator

import pytest

from adafocus.service.errors import Problem, SourceUnavailable, UrlNotAllowed
from adafocus.service.sources.dialer import CheckedNetwork
from adafocus.service.sources.http_source import FIRST_BYTES, MAX_REDIRECTS, HttpSource
from adafocus.service.sources.policy import UrlPolicy
from tests.service.sources.servers import (
    Handle,
    RecordingNetwork,
    Request,
    Resolver,
    files,
    head,
    serving_http,
)
from tests.tls import server_context, trusting_the_certificate

ANYWHERE = UrlPolicy(("*", "127.0.0.1:*", "*:*"), private=True)
STRANGERS = UrlPolicy(("*", "*:*"))
DATA = random.Random(0).randbytes(300_000)


async def read(source: HttpSource, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in source.read(start, stop)])


async def fetched(handle: Handle, path: str = "/clip.mp4", stall_seconds: float = 20.0) -> bytes:
    """The whole file that a server offers."""
    async with serving_http(handle) as server:
        source = HttpSource(server.url(path), ANYWHERE, stall_seconds=stall_seconds)
        try:
            await source.open()
            return await read(source)
        finally:
            await source.close()


async def refusal(handle: Handle, stall_seconds: float = 20.0) -> str:
    with pytest.raises(SourceUnavailable) as caught:
        await fetched(handle, stall_seconds=stall_seconds)
    return caught.value.detail


async def test_parts_are_read_in_any_order() -> None:
    async with serving_http(files({"/clip.mp4": DATA})) as server:
        source = HttpSource(server.url(), ANYWHERE)
        await source.open()
        assert (source.ranged, source.size) == (True, len(DATA))
        assert await read(source, 0, 10) == DATA[:FIRST_BYTES], "the first request has brought them already"
        assert await read(source, 200_000, 200_010) == DATA[200_000:200_010]
        assert await read(source, 5, 9) == DATA[5:9]
        await source.close()
    assert [request.range for request in server.requests] == [(0, FIRST_BYTES - 1), (200_000, 200_009), (5, 8)]
    assert server.requests[1].headers["if-range"] == '"1"'
    assert all(request.headers["accept-encoding"] == "identity" for request in server.requests)


async def test_a_server_without_ranges_is_read_once_from_the_start() -> None:
    async with serving_http(files({"/clip.mp4": DATA}, ranges=False)) as server:
        source = HttpSource(server.url(), ANYWHERE)
        await source.open()
        assert (source.ranged, source.size) == (False, len(DATA))
        assert await read(source) == DATA
        await source.close()
    assert len(server.requests) == 1


async def test_https_is_spoken_and_the_certificate_is_checked() -> None:
    async with serving_http(files({"/clip.mp4": DATA}), server_context()) as server:

        async def whole() -> bytes:
            source = HttpSource(server.url(), ANYWHERE)
            try:
                await source.open()
                return await read(source)
            finally:
                await source.close()

        with pytest.raises(SourceUnavailable, match="certificate of the server was rejected: self-signed"):
            await whole()
        assert not server.requests
        with trusting_the_certificate():
            assert await whole() == DATA


async def test_a_small_file_takes_one_request() -> None:
    async with serving_http(files({"/clip.mp4": DATA[:1000]})) as server:
        source = HttpSource(server.url(), ANYWHERE)
        await source.open()
        assert await read(source, 0, 1000) == DATA[:1000]
        await source.close()
    assert len(server.requests) == 1


def raw(*pieces: bytes) -> Handle:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
        await writer.drain()
        writer.close()

    return handle


async def endless(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head(206, None, Content_Range=f"bytes 0-{FIRST_BYTES - 1}/300000", Transfer_Encoding="chunked"))
    while True:
        writer.write(b"1000\r\n" + bytes(4096) + b"\r\n")
        await writer.drain()


async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def stops_midway(request: Request, writer: asyncio.StreamWriter) -> None:
    writer.write(head(200, 1000) + b"x" * 10)
    await writer.drain()
    await asyncio.Event().wait()


HOSTILE: dict[str, tuple[Handle, str]] = {
    "not found": (raw(head(404, 0)), "status 404"),
    "forbidden": (raw(head(403, 0)), "status 403"),
    "fails": (raw(head(500, 0)), "status 500"),
    "no content": (raw(head(204)), "status 204"),
    "a range that nobody asked for": (
        raw(head(206, 4, Content_Range="bytes 100-103/300000") + b"abcd"),
        "something else",
    ),
    "a range without saying which": (raw(head(206, 4) + b"abcd"), "something else"),
    "a range that is none": (raw(head(206, 4, Content_Range="bytes 0-3/*") + b"abcd"), "something else"),
    "a range backwards": (raw(head(206, 4, Content_Range="bytes 3-0/9") + b"abcd"), "something else"),
    "a range behind its own end": (raw(head(206, 4, Content_Range="bytes 0-9/5") + b"abcd"), "something else"),
    "several parts": (raw(head(206, 4, Content_Type="multipart/byteranges; boundary=x") + b"abcd"), "something else"),
    "fewer bytes than its range": (
        raw(head(206, 2, Content_Range="bytes 0-3/4") + b"ab"),
        "fewer bytes",
    ),
    "more bytes than its range": (raw(head(206, 6, Content_Range="bytes 0-3/4") + b"abcdef"), "more bytes"),
    "endless": (endless, "more bytes"),
    "cut off": (raw(head(200, 1000) + b"x" * 10), "failed"),
    "gzip that nobody asked for": (
        raw(head(200, None, Content_Encoding="gzip", Connection="close") + gzip.compress(DATA)),
        "encoded",
    ),
    "no HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "failed"),
    "a head without an end": (raw(b"HTTP/1.1 200 OK\r\n" + b"X-Header: " + b"a" * 200_000), "failed"),
    "closes at once": (raw(), "failed"),
    "redirects to nowhere": (raw(head(302, 0)), "nowhere"),
    "redirects in a circle": (raw(head(302, 0, Location="/again")), f"more than {MAX_REDIRECTS} times"),
}


@pytest.mark.parametrize(("handle", "said"), HOSTILE.values(), ids=HOSTILE)
async def test_a_hostile_server_is_given_up(handle: Handle, said: str) -> None:
    assert said in await refusal(handle)


@pytest.mark.parametrize("handle", [silent, stops_midway])
async def test_a_server_that_is_too_slow_is_given_up(handle: Handle) -> None:
    assert "too slow" in await refusal(handle, stall_seconds=0.2)


async def test_a_file_that_changes_is_an_error_and_not_a_mixture() -> None:
    versions: Iterator[Handle] = iter(
        [files({"/clip.mp4": DATA}, etag='"1"'), files({"/clip.mp4": DATA[::-1]}, etag='"2"')]
    )

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        await next(versions)(request, writer)

    assert "changed" in await refusal(handle)


@pytest.mark.parametrize("change", [{"ETag": '"2"'}, {"size": "300001"}])
async def test_a_server_that_ignores_if_range_is_caught(change: dict[str, str]) -> None:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        assert request.range is not None
        first, last = request.range
        told = {"ETag": '"1"', "size": "300000", **(change if first else {})}
        part = DATA[first : last + 1]
        content_range = f"bytes {first}-{first + len(part) - 1}/{told['size']}"
        writer.write(head(206, len(part), Content_Range=content_range, ETag=told["ETag"]) + part)

    assert "changed" in await refusal(handle)


async def test_redirects_are_followed_and_remembered() -> None:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        if request.path == "/clip.mp4":
            writer.write(head(302, 0, Location="/elsewhere/film.mp4"))
        else:
            await files({"/elsewhere/film.mp4": DATA})(request, writer)

    async with serving_http(handle) as server:
        source = HttpSource(server.url(), ANYWHERE)
        await source.open()
        assert await read(source) == DATA
        await source.close()
    assert [request.path for request in server.requests] == ["/clip.mp4", "/elsewhere/film.mp4", "/elsewhere/film.mp4"]


async def test_credentials_go_to_their_own_host_only() -> None:
    async with serving_http(files({"/film.mp4": b"film"})) as other:

        async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
            writer.write(head(302, 0, Location=other.url("/film.mp4")))

        async with serving_http(handle) as server:
            source = HttpSource(server.url().replace("//", "//user:secret@"), ANYWHERE)
            await source.open()
            assert await read(source) == b"film"
            await source.close()
    assert server.requests[0].headers["authorization"].startswith("Basic ")
    assert "authorization" not in other.requests[0].headers


async def test_nothing_secret_is_logged_or_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving_http(files({})) as server:
        source = HttpSource(server.url("/path?signature=s3cr3t").replace("//", "//user:s3cr3t@"), ANYWHERE)
        with pytest.raises(SourceUnavailable) as caught:
            await source.open()
        await source.close()
    assert "s3cr3t" not in caught.value.detail
    assert "s3cr3t" not in caplog.text
    assert "s3cr3t" not in repr(source)


PRIVATE_TARGETS = [
    "http://127.0.0.1/",
    "http://localhost/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://127.1/",
    "http://0/",
    "http://[::1]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/",
    "http://10.0.0.1/",
]


@pytest.mark.parametrize("url", PRIVATE_TARGETS)
async def test_nothing_private_is_dialled(url: str) -> None:
    network = RecordingNetwork()
    source = HttpSource(url, STRANGERS, network=CheckedNetwork(private=False, network=network))
    with pytest.raises(Problem) as caught:
        await source.open()
    await source.close()
    assert isinstance(caught.value, UrlNotAllowed | SourceUnavailable)
    assert network.dialled == []


async def test_a_redirect_to_a_private_address_is_refused_before_it_is_dialled() -> None:
    for target in PRIVATE_TARGETS:

        async def handle(request: Request, writer: asyncio.StreamWriter, target: str = target) -> None:
            writer.write(head(302, 0, Location=target))

        async with serving_http(handle) as server:
            network = RecordingNetwork(server.port)
            resolver = Resolver({"public.example": [["93.184.215.14"]]})

            async def resolve(host: str, port: int, known: Resolver = resolver) -> list[str]:
                if host in known.answers:
                    return list(await known(host, port))
                found = await asyncio.get_running_loop().getaddrinfo(host, port)
                return [str(entry[4][0]) for entry in found]

            checked = CheckedNetwork(private=False, network=network, resolver=resolve)
            source = HttpSource("http://public.example/clip.mp4", STRANGERS, network=checked)
            with pytest.raises((UrlNotAllowed, SourceUnavailable)):
                await source.open()
            await source.close()
        assert network.dialled == [("93.184.215.14", 80)]


async def test_a_name_that_is_rebound_is_dialled_where_it_was_checked() -> None:
    """The name leads to a public address first and to loopback the next time: each answer is checked and dialled."""
    async with serving_http(files({"/clip.mp4": DATA})) as server:
        network = RecordingNetwork(server.port)
        resolver = Resolver({"rebound.example": [["93.184.215.14"], ["127.0.0.1"]]})
        checked = CheckedNetwork(private=False, network=network, resolver=resolver)
        source = HttpSource("http://rebound.example/clip.mp4", STRANGERS, network=checked)
        await source.open()
        assert network.dialled == [("93.184.215.14", 80)]
        assert resolver.asked == ["rebound.example"], "it is resolved once for each connection"
        stream = source.read(0, 10)
        await anext(stream)
        await stream.aclose()  # the connection is given up in the middle, so the next part needs another one
        with pytest.raises(UrlNotAllowed):
            await read(source, 200_000, 200_010)
        await source.close()
    assert network.dialled == [("93.184.215.14", 80)]


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    network = RecordingNetwork()
    resolver = Resolver({"mixed.example": [["93.184.215.14", "10.0.0.1"]]})
    checked = CheckedNetwork(private=False, network=network, resolver=resolver)
    source = HttpSource("http://mixed.example/", STRANGERS, network=checked)
    with pytest.raises(UrlNotAllowed, match="not public"):
        await source.open()
    await source.close()
    assert network.dialled == []


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://example.org/", "//other.example/", "http://[::1"])
async def test_a_redirect_must_be_permitted_like_the_url(location: str) -> None:
    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(head(302, 0, Location=location))

    async with serving_http(handle) as server:
        policy = UrlPolicy(("127.0.0.1:*",), private=True)
        source = HttpSource(server.url(), policy)
        with pytest.raises(UrlNotAllowed):
            await source.open()
        await source.close()
    assert len(server.requests) == 1


async def test_a_url_that_is_not_permitted_is_refused_before_anything_happens() -> None:
    with pytest.raises(UrlNotAllowed):
        HttpSource("http://example.org/", UrlPolicy(()))

"""HLS playlists, and the segments of a live one."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.errors import SourceUnavailable
from adafocus.service.live.feeds import HlsStream, is_playlist, parse_playlist
from tests.service.sources.servers import Request, files, head, serving_http

BASE = "https://example.org/live/stream.m3u8"


def test_segments_are_relative_to_the_playlist() -> None:
    text = (
        '#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-MAP:URI="init.mp4"\n'
        "#EXTINF:4.0,\n1.ts?a=b\n#EXTINF:4.0,\nhttps://cdn.example/2.ts\n#EXT-X-ENDLIST\n"
    )
    found = parse_playlist(text, BASE)
    assert found.segments == ("https://example.org/live/1.ts?a=b", "https://cdn.example/2.ts")
    assert (found.header, found.target_s, found.ended) == ("https://example.org/live/init.mp4", 4.0, True)


def test_of_a_master_playlist_the_first_variant_is_read() -> None:
    text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nlow.m3u8\n#EXT-X-STREAM-INF:BANDWIDTH=2\nhigh.m3u8\n"
    assert parse_playlist(text, BASE).variant == "https://example.org/live/low.m3u8"


@pytest.mark.parametrize(
    "text", ["", "hello", '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="k"\n1.ts\n', "#EXTM3U\nhttp://[::1\n"]
)
def test_what_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(SourceUnavailable):
        parse_playlist(text, BASE)


@given(st.text(max_size=200))
def test_any_text_is_a_playlist_or_refused(text: str) -> None:
    try:
        parse_playlist("#EXTM3U\n" + text, BASE)
    except SourceUnavailable as problem:
        assert len(problem.detail) < 100


def test_which_urls_are_playlists() -> None:
    assert is_playlist("http://host/a.M3U8?token=1")
    assert not is_playlist("http://host/a.ts?x=.m3u8")


async def test_a_live_playlist_is_followed_from_near_its_end() -> None:
    looks = 0

    async def handle(request: Request, writer: asyncio.StreamWriter) -> None:
        nonlocal looks
        if request.path.endswith(".m3u8"):
            looks += 1
            newest = 5 + looks
            lines = [
                "#EXTM3U",
                "#EXT-X-TARGETDURATION:2",
                *(f"#EXTINF:2,\n{n}.ts" for n in range(newest - 5, newest + 1)),
            ]
            body = "\n".join([*lines, *(["#EXT-X-ENDLIST"] if looks == 3 else [])]).encode()
            writer.write(head(200, len(body)) + body)
        else:
            await files({request.path: request.path.encode()})(request, writer)

    async def no_pause(seconds: float) -> None:
        assert seconds == 1.0

    async with serving_http(handle) as server:
        stream = HlsStream(server.url("/live.m3u8"), pause=no_pause)
        found = [chunk async for chunk in stream.chunks()]
    assert found == [f"/{n}.ts".encode() for n in (4, 5, 6, 7, 8)]

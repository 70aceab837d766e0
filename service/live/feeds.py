"""Brings the bytes of a live stream: from an http or https URL, or from an HLS playlist."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from adafocus.service.errors import SourceUnavailable
from adafocus.service.sources.base import ByteSource
from adafocus.service.sources.http_source import HttpSource
from adafocus.service.sources.policy import UrlPolicy

STALL_SECONDS = 20.0
MAX_PLAYLIST_BYTES = 1 << 20
MAX_SEGMENT_BYTES = 64 << 20
_KNOWN_SEGMENTS = 1000
_LEAST_PAUSE_SECONDS, _FIRST_SEGMENTS = 0.5, 3

MakeSource = Callable[[str], ByteSource]


def http_source(url: str) -> ByteSource:
    """A source for a URL of ``cameras.toml``. Its owner named the host, so any host and address is permitted."""
    return HttpSource(url, UrlPolicy(("*", "*:*"), private=True), stall_seconds=STALL_SECONDS)


async def http_stream(url: str, make: MakeSource = http_source) -> AsyncGenerator[bytes, None]:
    """The bytes of a stream without an end, as they arrive.

    Raises:
        Problem: the stream cannot be read.
    """
    source = make(url)
    try:
        await source.open()
        async with aclosing(source.read(0, None)) as chunks:
            async for chunk in chunks:
                yield chunk
    finally:
        await source.close()


@dataclass(slots=True)
class HlsStream:
    """The segments of an HLS playlist (RFC 8216), one after the other: MPEG-TS, or fragmented MP4 with its header.

    Of a master playlist, the first variant is read. Segments that are encrypted are not.

    Args:
        url: of the playlist.
        make: makes what reads a URL.
        pause: waits between two looks at the playlist.
    """

    url: str
    make: MakeSource = http_source
    pause: Callable[[float], object] = asyncio.sleep
    _seen: deque[str] = field(default_factory=lambda: deque(maxlen=_KNOWN_SEGMENTS))

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The bytes of the segments as they appear.

        Raises:
            Problem: the playlist or a segment cannot be read.
        """
        playlist = parse_playlist((await self._read(self.url, MAX_PLAYLIST_BYTES)).decode("utf-8", "replace"), self.url)
        if playlist.variant is not None:
            self.url = playlist.variant
            playlist = parse_playlist(
                (await self._read(self.url, MAX_PLAYLIST_BYTES)).decode("utf-8", "replace"), self.url
            )
        if not playlist.ended:
            self._seen.extend(playlist.segments[:-_FIRST_SEGMENTS])  # begin near the live end
        header: str | None = None
        while True:
            for segment in playlist.segments:
                if segment in self._seen:
                    continue
                self._seen.append(segment)
                if playlist.header is not None and playlist.header != header:
                    header = playlist.header
                    yield await self._read(header, MAX_SEGMENT_BYTES)
                yield await self._read(segment, MAX_SEGMENT_BYTES)
            if playlist.ended:
                return
            waiting = self.pause(max(_LEAST_PAUSE_SECONDS, playlist.target_s / 2))
            if asyncio.iscoroutine(waiting):
                await waiting
            playlist = parse_playlist(
                (await self._read(self.url, MAX_PLAYLIST_BYTES)).decode("utf-8", "replace"), self.url
            )

    async def _read(self, url: str, most: int) -> bytes:
        parts, size = [], 0
        async with aclosing(http_stream(url, self.make)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > most:
                    raise SourceUnavailable(f"a playlist or segment has more than {most} bytes")
                parts.append(chunk)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Playlist:
    """What an HLS playlist says.

    Attributes:
        variant: URL of the first variant, of a master playlist.
        segments: URLs, in order.
        header: URL of the header of the segments, if they have one.
        target_s: longest segment, seconds.
        ended: no further segment will be added.
    """

    variant: str | None
    segments: tuple[str, ...]
    header: str | None
    target_s: float
    ended: bool


def parse_playlist(text: str, url: str) -> Playlist:
    """Parse a playlist; URLs in it are relative to its own. Pure.

    Raises:
        SourceUnavailable: it is not a playlist, or its segments are encrypted.
    """
    lines = [line.strip() for line in text.splitlines()]
    if not lines or not lines[0].lstrip("\ufeff").startswith("#EXTM3U"):
        raise SourceUnavailable("this is not an HLS playlist")
    segments, header, target_s, variant, is_variant = [], None, 6.0, None, False
    for line in lines[1:]:
        if line.startswith("#EXT-X-STREAM-INF"):
            is_variant = True
        elif line.startswith("#EXT-X-KEY") and "METHOD=NONE" not in line:
            raise SourceUnavailable("the segments of the HLS playlist are encrypted")
        elif line.startswith("#EXT-X-TARGETDURATION:"):
            value = line.partition(":")[2]
            target_s = float(value) if value.isascii() and value.isdecimal() and len(value) < 6 else target_s
        elif line.startswith("#EXT-X-MAP:"):
            header = _joined(url, line.partition('URI="')[2].partition('"')[0])
        elif line and not line.startswith("#"):
            target = _joined(url, line)
            if is_variant:
                variant = variant or target
            else:
                segments.append(target)
    return Playlist(variant, tuple(segments), header, target_s, "#EXT-X-ENDLIST" in lines)


def is_playlist(url: str) -> bool:
    """Whether a URL names an HLS playlist, by its ending."""
    return urlsplit(url).path.lower().endswith((".m3u8", ".m3u"))


def _joined(base: str, reference: str) -> str:
    try:
        return str(httpx.URL(base).join(reference))
    except (httpx.InvalidURL, ValueError):
        raise SourceUnavailable("the HLS playlist names something that is not a URL") from None

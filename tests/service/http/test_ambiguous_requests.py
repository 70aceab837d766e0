"""Requests whose framing or target can be read in two ways, with both HTTP parsers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.server import Running, make_settings, serving


@pytest.fixture(params=["httptools", "h11"])
async def running(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    if request.param == "h11":
        monkeypatch.setattr("adafocus.cli.http_protocol.find_spec", lambda _: None)
    async with serving(make_settings(tmp_path)) as served:
        yield served


async def told(running: Running, request: bytes, *, until_closed: bool = True) -> bytes:
    """What the server sends for a request before it closes the connection, or its first line."""
    reader, writer = await running.connect()
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read() if until_closed else reader.readline(), 30)
    finally:
        writer.close()


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b"identity, chunked", b"gzip"])
async def test_a_length_beside_a_coding_is_refused_and_the_connection_closed(running: Running, coding: bytes) -> None:
    smuggled = b"0\r\n\r\nGET /model HTTP/1.1\r\nHost: a\r\n\r\n"
    head = b"POST /classify HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: " + coding + b"\r\n\r\n"
    answer = await told(running, head + smuggled)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1


@pytest.mark.parametrize("target", [b"http://other.example/healthz", b"HTTP://other.example:80/healthz?x=1"])
async def test_a_target_in_absolute_form_is_understood(running: Running, target: bytes) -> None:
    answer = await told(running, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n", until_closed=False)
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("target", [b"http://other.example", b"http://", b"*", b"//", b"?", b"http://a:b:c/"])
async def test_an_odd_target_is_answered_and_breaks_nothing(running: Running, target: bytes) -> None:
    request = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    answer = await told(running, request)
    assert answer.startswith(b"HTTP/1.1 ")
    assert not answer.startswith(b"HTTP/1.1 5")
    assert (await told(running, b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", until_closed=False)).startswith(
        b"HTTP/1.1 200 "
    )


async def test_a_redirect_does_not_repeat_the_host_header(running: Running) -> None:
    request = b"POST /classify/?exit=fast HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n"
    answer = await told(running, request)
    assert b"evil.example" not in answer
    assert b"location: /classify?exit=fast\r\n" in answer.lower()

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from adafocus.cli import connections
from adafocus.cli.connections import ConnectionLimit, connections_for, raise_descriptor_limit
from tests.service.server import make_settings, serving


@dataclass(eq=False)
class Held:
    """A connection that knows what became of it."""

    idle: bool = False
    closed: bool = False
    events: list[str] = field(default_factory=list)

    def close(self) -> None:
        self.closed = True


def test_a_caller_cannot_take_all_connections() -> None:
    limit = ConnectionLimit(10, 4)
    assert [limit.take(Held(), "192.0.2.1") for _ in range(6)] == [True] * 4 + [False] * 2
    assert limit.take(Held(), "192.0.2.2")
    assert len(limit) == 5


def test_networks_of_ipv6_are_one_caller() -> None:
    limit = ConnectionLimit(10, 1)
    assert limit.take(Held(), "2001:db8::1")
    assert not limit.take(Held(), "2001:db8::2")
    assert limit.take(Held(), "2001:db8:0:1::1")


def test_an_idle_connection_of_the_caller_with_most_makes_way() -> None:
    limit = ConnectionLimit(3, 3)
    busy, idle, other = Held(), Held(idle=True), Held(idle=True)
    assert limit.take(busy, "192.0.2.1")
    assert limit.take(idle, "192.0.2.1")
    assert limit.take(other, "192.0.2.2")
    assert limit.take(Held(), "192.0.2.3")
    assert (busy.closed, idle.closed, other.closed) == (False, True, False)
    assert len(limit) == 3
    limit.release(idle)  # its end is noticed later
    assert len(limit) == 3


def test_busy_connections_do_not_make_way() -> None:
    limit = ConnectionLimit(2, 2)
    first, second = Held(), Held()
    assert limit.take(first, "192.0.2.1")
    assert limit.take(second, "192.0.2.1")
    assert not limit.take(Held(), "192.0.2.2")
    limit.release(first)
    assert limit.take(Held(), "192.0.2.2")


def test_connections_leave_descriptors_for_the_rest() -> None:
    assert connections_for(1024) == 512
    assert connections_for(1 << 20) == connections.MOST_CONNECTIONS
    assert connections_for(4) == 8


def test_the_descriptor_limit_is_raised_as_far_as_permitted(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    assert raise_descriptor_limit() == 4096
    assert limits[resource.RLIMIT_NOFILE] == (4096, 4096)
    limits[resource.RLIMIT_NOFILE] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert raise_descriptor_limit() == connections.MOST_DESCRIPTORS


@pytest.mark.parametrize("without_httptools", [False, True])
async def test_a_server_keeps_an_honest_client_beside_idle_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without_httptools: bool
) -> None:
    if without_httptools:
        monkeypatch.setattr("adafocus.cli.http_protocol.find_spec", lambda _: None)
    settings = make_settings(tmp_path, max_connections=4, max_connections_per_caller=4)
    async with serving(settings) as running:
        held = [await running.connect() for _ in range(8)]
        async with running.client() as client:
            assert (await client.get("/healthz")).status_code == 200
        closed = [await reader.read() for reader, _ in held[:4]]
        assert closed == [b""] * 4
        for _, writer in held:
            writer.close()


async def test_a_connection_too_many_is_told_so(tmp_path: Path) -> None:
    settings = make_settings(tmp_path, max_connections=1)
    async with serving(settings) as running:
        waiting, busy = await running.connect()
        busy.write(b"POST /classify HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n")
        assert (await waiting.readline()).startswith(b"HTTP/1.1 100 ")
        reader, writer = await running.connect()
        answer = await asyncio.wait_for(reader.read(), 30)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b'"code":"overloaded"' in answer
        writer.close()
        busy.close()

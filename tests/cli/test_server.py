from __future__ import annotations

import asyncio
import signal
from typing import cast

import uvicorn

from adafocus.cli.server import DrainingServer
from adafocus.service.http.state import ServerState


class Ticking(DrainingServer):
    """Counts its ticks, and would wait for the second one for a long time."""

    tick_seconds = 600.0
    ticks = 0

    async def on_tick(self, counter: int) -> bool:
        self.ticks += 1
        return await super().on_tick(counter)


def make_server() -> Ticking:
    config = uvicorn.Config(lambda: None, log_config=None)
    return Ticking(config, cast("ServerState", None))


async def test_a_server_that_should_exit_does_not_wait_for_its_next_tick() -> None:
    server = make_server()
    running = asyncio.create_task(server.main_loop())
    while not server.ticks:
        await asyncio.sleep(0)
    server.should_exit = True
    await running
    assert server.ticks == 2
    assert b"date" in dict(server.server_state.default_headers)


async def test_a_signal_ends_it_at_once_too() -> None:
    server = make_server()
    asyncio.get_running_loop().call_soon(server.handle_exit, signal.SIGINT, None)
    await server.main_loop()
    assert server.should_exit


async def test_one_that_was_told_before_it_began_ends_after_a_tick() -> None:
    server = make_server()
    server.should_exit = True
    await server.main_loop()
    assert server.ticks == 1

"""Events published to a real MQTT broker on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiomqtt
import pytest

from adafocus.service.live.mqtt import Broker, Mqtt, parse_broker
from adafocus.service.sources.dialer import client_context
from tests.tls import CERTIFICATE, KEY, trusting_the_certificate

ROW = {"type": "begin", "camera": "gate", "label": "bridge_up"}
BROKER = (sys.executable, "-W", "ignore", "-m", "amqtt.scripts.broker_script")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.asynccontextmanager
async def broker(folder: Path, port: int, *, tls: bool = False) -> AsyncIterator[None]:
    """A broker that answers; it is killed at the end, as a power cut would."""
    settings = folder / "broker.yaml"
    secured = f"    ssl: true\n    certfile: {CERTIFICATE}\n    keyfile: {KEY}\n" if tls else ""
    settings.write_text(
        f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n{secured}"
        "plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    allow_anonymous: true\n",
        encoding="utf-8",
    )
    process = await asyncio.create_subprocess_exec(
        *BROKER, "-c", str(settings), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.05)
        yield
    finally:
        process.kill()
        await process.wait()


async def received(
    port: int, count: int, subscribed: asyncio.Event, tls: ssl.SSLContext | None = None
) -> list[tuple[str, dict[str, object]]]:
    found: list[tuple[str, dict[str, object]]] = []
    async with aiomqtt.Client("127.0.0.1", port, tls_context=tls) as client:
        await client.subscribe("cameras/#", qos=1)
        subscribed.set()
        async for message in client.messages:
            assert isinstance(message.payload, bytes)
            found.append((str(message.topic), json.loads(message.payload)))
            if len(found) == count:
                break
    return found


@contextlib.asynccontextmanager
async def publishing(port: int, *, tls: bool = False) -> AsyncIterator[Mqtt]:
    async def soon(seconds: float) -> None:
        await asyncio.sleep(0.02)

    mqtt = Mqtt(Broker("127.0.0.1", port, tls=tls, user=None, password=None), "cameras/{camera}/events", pause=soon)
    running = asyncio.create_task(mqtt.run())
    try:
        yield mqtt
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_events_arrive_once_and_windows_are_not_published(tmp_path: Path) -> None:
    port, subscribed = free_port(), asyncio.Event()
    async with broker(tmp_path, port), publishing(port) as mqtt, asyncio.timeout(60):
        receiving = asyncio.create_task(received(port, 2, subscribed))
        await subscribed.wait()
        mqtt.put(ROW)
        mqtt.put({"type": "window", "camera": "gate"})
        mqtt.put({**ROW, "type": "end"})
        found = await receiving
        await mqtt.flush(30)
    assert found == [("cameras/gate/events", ROW), ("cameras/gate/events", {**ROW, "type": "end"})]
    assert (mqtt.delivered, mqtt.dropped) == (2, 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # paho drops a socket it cannot use
async def test_tls_is_spoken_and_the_certificate_is_checked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    port, subscribed = free_port(), asyncio.Event()
    async with broker(tmp_path, port, tls=True), asyncio.timeout(60):
        async with publishing(port, tls=True) as mqtt:
            mqtt.put(ROW)
            while "certificate verify failed" not in caplog.text:
                await asyncio.sleep(0.02)
            assert mqtt.delivered == 0
        with trusting_the_certificate():
            receiving = asyncio.create_task(received(port, 1, subscribed, client_context()))
            await subscribed.wait()
            async with publishing(port, tls=True) as mqtt:
                mqtt.put(ROW)
                assert await receiving == [("cameras/gate/events", ROW)]
    caplog.clear()  # of the error that holds the socket
    gc.collect()  # here, where what it finds is expected


async def test_events_wait_while_the_broker_is_away(tmp_path: Path) -> None:
    port = free_port()
    async with publishing(port) as mqtt, asyncio.timeout(120):
        mqtt.put(ROW)
        async with broker(tmp_path, port):
            await mqtt.flush(60)
        assert mqtt.delivered == 1
        mqtt.put({**ROW, "number": 2})  # the broker is dead, and the connection does not know yet
        async with broker(tmp_path, port):
            await mqtt.flush(60)
    assert (mqtt.delivered, mqtt.dropped) == (2, 0)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("mqtt://broker", Broker("broker", 1883, tls=False, user=None, password=None)),
        ("mqtts://u:p%40@broker:99/", Broker("broker", 99, tls=True, user="u", password="p@")),  # noqa: S106
    ],
)
def test_brokers(url: str, expected: Broker) -> None:
    assert parse_broker(url) == expected
    assert "p@" not in repr(expected)


@pytest.mark.parametrize("url", ["http://broker", "mqtt://", "mqtt://b:x/", "mqtt://b/topic", "broker"])
def test_what_is_no_broker_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"mqtt://|URL"):
        parse_broker(url)

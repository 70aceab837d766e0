"""Publishes events of cameras to an MQTT broker, at least once. A connection that breaks is opened again."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from adafocus.service.live.outputs import QueuedOutput, Row
from adafocus.service.sources.dialer import client_context

if TYPE_CHECKING:
    import aiomqtt

SCHEMES = ("mqtt", "mqtts")
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_TIMEOUT_SECONDS = 15.0
_LONGEST_PAUSE_SECONDS = 60.0
_NO_EXTRA = "MQTT needs the package 'aiomqtt'; install it with: pip install 'adafocus[mqtt]'"

logger = logging.getLogger("adafocus.live")


class MqttUnavailableError(Exception):
    """The extra that speaks MQTT is not installed; the text says how to install it."""


@dataclass(frozen=True, slots=True)
class Broker:
    """Where a broker is."""

    host: str
    port: int
    tls: bool
    user: str | None
    password: str | None = field(repr=False)


def parse_broker(url: str) -> Broker:
    """Parse an mqtt or mqtts URL.

    Raises:
        ValueError: it is not one. The text does not repeat the URL, which may hold a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("this is not a valid URL") from None
    if parts.scheme not in SCHEMES or not parts.hostname or parts.path.strip("/"):
        raise ValueError("must be mqtt://HOST or mqtts://HOST, with user, password and port where needed, and no path")
    user = None if parts.username is None else unquote(parts.username)
    password = None if parts.password is None else unquote(parts.password)
    return Broker(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts", user, password)


class Mqtt(QueuedOutput):
    """Publishes rows one after the other, each until the broker has it (QoS 1). While it is away, the newest wait.

    Args:
        broker: where it is.
        topic: of the events; ``{camera}`` stands for the camera's name.
        pause: waits for some seconds.

    Raises:
        MqttUnavailableError: the extra is not installed.
    """

    def __init__(
        self, broker: Broker, topic: str, *, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        try:
            import aiomqtt  # noqa: F401 - what is missing is said before anything starts
        except ImportError:
            raise MqttUnavailableError(_NO_EXTRA) from None
        super().__init__()
        self._broker = broker
        self._topic = topic
        self._pause = pause
        self._publishing: Row | None = None

    async def run(self) -> None:
        """Publish rows until this is cancelled; opens the connection again whenever it breaks."""
        import aiomqtt

        pause_seconds = 1.0
        while True:
            try:
                async with self._connection() as client:
                    pause_seconds = 1.0
                    await self._publish_all(client)
            except aiomqtt.MqttError as error:
                logger.warning("the MQTT broker is away: %s", error, extra={"fields": {"host": self._broker.host}})
            await self._pause(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _LONGEST_PAUSE_SECONDS)

    async def _publish_all(self, client: aiomqtt.Client) -> None:
        while True:
            if self._publishing is None:
                self._publishing = await self._queue.get()
            row = self._publishing
            topic = self._topic.replace("{camera}", str(row["camera"]))
            await client.publish(topic, json.dumps(row, ensure_ascii=False), qos=1, timeout=_TIMEOUT_SECONDS)
            self._publishing = None
            self._queue.task_done()
            self._is_delivered(True)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiomqtt.Client]:
        import aiomqtt

        broker = self._broker
        async with aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.user,
            password=broker.password,
            tls_context=client_context() if broker.tls else None,
            timeout=_TIMEOUT_SECONDS,
        ) as client:
            yield client

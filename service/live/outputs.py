"""Where events of cameras go: JSON Lines, and a webhook with signatures, retries and a bounded queue."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TextIO

import httpcore
import httpx

from adafocus.service.sources.dialer import client_context

Row = dict[str, Any]

logger = logging.getLogger("adafocus.live")

MAX_QUEUE = 1000
RETRY_SECONDS = (1.0, 5.0, 30.0, 120.0)
"""Pauses before an event is posted again; after the last one it is given up."""

_TIMEOUT_SECONDS = 15.0


class Output(Protocol):
    """Takes rows; must not block."""

    def put(self, row: Row) -> None:
        """Take a row."""


class JsonLines:
    """Writes each row as one line at once."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def put(self, row: Row) -> None:
        """Write a row."""
        self._stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._stream.flush()


def signature(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The header ``webhook-signature`` (https://www.standardwebhooks.com).

    Raises:
        ValueError: the secret is not ``whsec_`` and base64.
    """
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        raise ValueError("the secret of a webhook must be whsec_ and its key in base64") from None
    signed = b".".join((message_id.encode(), str(timestamp).encode(), body))
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()


class QueuedOutput:
    """An output that delivers beginnings and ends of events on its own time. If too many wait, the oldest is dropped.

    Attributes:
        delivered: rows that were accepted.
        dropped: rows that were given up, or had no place in the queue.
        on_outcome: called for each row with whether it was delivered.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Row] = asyncio.Queue(MAX_QUEUE)
        self.on_outcome: Callable[[bool], None] = lambda delivered: None
        self.delivered = 0
        self.dropped = 0

    def put(self, row: Row) -> None:
        """Queue a row; of rows about windows there are too many to be sent."""
        if row["type"] not in ("begin", "end"):
            return
        if self._queue.full():
            self._queue.get_nowait()
            self._queue.task_done()
            self._is_delivered(False)
        self._queue.put_nowait(row)

    async def run(self) -> None:
        """Deliver rows until this is cancelled."""
        raise NotImplementedError

    async def flush(self, seconds: float) -> None:
        """Wait until all rows were delivered or given up, but not longer than some seconds."""
        try:
            async with asyncio.timeout(seconds):
                await self._queue.join()
        except TimeoutError:
            for _ in range(self._queue.qsize()):
                self._is_delivered(False)

    async def close(self) -> None:
        """Close the connection; called after `run` was cancelled."""

    def _is_delivered(self, yes: bool) -> None:
        if yes:
            self.delivered += 1
        else:
            self.dropped += 1
        self.on_outcome(yes)


class Webhook(QueuedOutput):
    """Posts rows one after the other, each until it is accepted or given up.

    Args:
        url: receives the rows.
        secret: ``whsec_`` and the key in base64.
        wall_clock: returns seconds since the Unix epoch.
        pause: waits for some seconds.

    Raises:
        ValueError: the secret is not as it should be.
    """

    def __init__(
        self,
        url: str,
        secret: str,
        *,
        wall_clock: Callable[[], float],
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__()
        signature(secret, "", 0, b"")
        self._url = httpx.URL(url)
        self._secret = secret
        self._wall_clock = wall_clock
        self._pause = pause
        self._pool = httpcore.AsyncConnectionPool(ssl_context=client_context(), max_connections=1)

    async def run(self) -> None:
        """Post rows until this is cancelled."""
        while True:
            row = await self._queue.get()
            try:
                await self._deliver(row)
            finally:
                self._queue.task_done()

    async def close(self) -> None:
        """Close the connection."""
        await self._pool.aclose()

    async def _deliver(self, row: Row) -> None:
        body, message_id = json.dumps(row, ensure_ascii=False).encode(), f"msg_{uuid.uuid4().hex}"
        for pause_seconds in (*RETRY_SECONDS, None):
            status = await self._post(body, message_id)
            if status is not None and 200 <= status < 300:
                self._is_delivered(True)
                return
            if status is not None and 400 <= status < 500 and status not in (408, 425, 429):
                break  # it will be refused again
            if pause_seconds is not None:
                await self._pause(pause_seconds)
        self._is_delivered(False)
        logger.error("an event could not be delivered to the webhook", extra={"fields": {"host": self._url.host}})

    async def _post(self, body: bytes, message_id: str) -> int | None:
        """Post once; returns the status, or None if there was none."""
        timestamp, url = int(self._wall_clock()), self._url
        headers = {
            "Host": url.netloc.decode("ascii"),
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(self._secret, message_id, timestamp, body),
        }
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path or b"/")
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _TIMEOUT_SECONDS)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        try:
            response = await self._pool.request(
                b"POST", target, headers=pairs, content=body, extensions={"timeout": timeouts}
            )
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError):
            return None
        return response.status

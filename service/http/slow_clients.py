"""The timers for clients that send slowly or not at all. Each one frees what the client would otherwise hold.

The timer for the head of a request runs before there is a request: the server's protocol class has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import Message, Receive

from adafocus.service.errors import UploadTimeout

PRESSED_RATE = 50.0
"""How many times the lowest rate is required of an upload when no more uploads can be taken."""

LINGER_SECONDS = 10.0
"""How long the rest of an upload is read and thrown away after its answer has been sent."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """The slowest upload that is accepted.

    A client that sends one byte now and then is never silent, so there is a limit on the mean rate too.

    Attributes:
        silence_seconds: the longest wait for the next bytes; and how long the rate may be lower at the start.
        min_bytes_per_second: the lowest mean rate over all the time spent waiting for the client; 0 for any rate.
        pressure: 0 to 1; at 1 the rate must be `PRESSED_RATE` times as high, and is checked after a quarter of the
            time.
    """

    silence_seconds: float
    min_bytes_per_second: float = 0.0
    pressure: Callable[[], float] = lambda: 0.0

    def check_rate(self, received_bytes: int, waited_seconds: float) -> None:
        """Compare the mean rate with the limit.

        Raises:
            UploadTimeout: the upload is slower.
        """
        pressure = self.pressure()
        required = self.min_bytes_per_second * (1.0 + (PRESSED_RATE - 1.0) * pressure)
        grace_seconds = self.silence_seconds * (1.0 - 0.75 * pressure)
        if waited_seconds > grace_seconds and received_bytes < required * waited_seconds:
            raise UploadTimeout(
                f"the upload averages {received_bytes / waited_seconds:.0f} bytes a second; "
                f"at least {required:.6g} bytes a second are required" + (" under load" if pressure else "")
            )


class UploadTimer:
    """Receives the messages of one upload and gives up on a client that is silent for too long.

    One timer runs for the whole upload and looks at how long the current wait has lasted; a new timer for every message
    would cost more than the rest of reading it.

    Args:
        limits: the slowest upload that is accepted.
    """

    def __init__(self, limits: UploadLimits) -> None:
        self.waited_seconds = 0.0
        """Time spent waiting for the client so far."""
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._reader: asyncio.Task[object] | None = None
        self._waiting_since: float | None = None
        self._expired = False

    async def next_message(self, receive: Receive) -> Message:
        """Receive one message.

        Raises:
            UploadTimeout: the client was silent for longer than the limit.
        """
        self._reader = asyncio.current_task()
        self._waiting_since = started = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(started + self._limits.silence_seconds, self._check)
        try:
            message = await receive()
        except asyncio.CancelledError:
            if self._expired and self._reader is not None and self._reader.uncancel() == 0:
                raise UploadTimeout(f"no bytes arrived for {self._limits.silence_seconds:g} seconds") from None
            raise
        finally:
            self._waiting_since = None
        self.waited_seconds += self._loop.time() - started
        return message

    def stop(self) -> None:
        """Stop the timer. May be called again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        now = self._loop.time()
        since = now if self._waiting_since is None else self._waiting_since
        due = since + self._limits.silence_seconds
        if self._reader is None or now < due:
            self._timer = self._loop.call_at(due, self._check)
        else:
            self._timer = None
            self._expired = True
            self._reader.cancel()


async def linger(discarding: Awaitable[None]) -> None:
    """Wait for the rest of an upload to be thrown away, but for no longer than `LINGER_SECONDS`."""
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_SECONDS):
            await discarding

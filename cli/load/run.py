"""Sends a load and times what comes back: one thread, one selector, and little Python per request."""

from __future__ import annotations

import json
import resource
import selectors
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from adafocus.cli.load.connection import TIMEOUT_SECONDS, Connection, Endpoint
from adafocus.cli.load.plan import Arrival, Plan, arrivals
from adafocus.cli.load.report import NO_CLASSIFICATION, Sample
from adafocus.cli.load.response import Response, ResponseError

_SWEEP_SECONDS = 1.0


@dataclass(slots=True)
class _Pending:
    """A request under way: its place in the load, and when its connection last did something."""

    due: float
    sent: float
    step: int
    active: float


class Load:
    """One load on a service; `run` sends it.

    Args:
        plan: what to send.
        endpoint: where to.
        done: told of each request as it ends.
        clock: in seconds.
    """

    def __init__(
        self, plan: Plan, endpoint: Endpoint, done: Callable[[Sample], None], clock: Callable[[], float]
    ) -> None:
        self._plan = plan
        self._endpoint = endpoint
        self._done = done
        self._clock = clock
        self._requests = endpoint.requests(plan)
        self._selector = selectors.DefaultSelector()
        self._idle: list[Connection] = []
        self._pending: dict[Connection, _Pending] = {}
        self._number = 0  # of the next request
        self._started = 0.0
        self._arrivals: Iterator[Arrival] = arrivals(plan) if plan.rates else iter(())
        self._next = next(self._arrivals, None)

    def run(self) -> None:
        """Send everything and wait for every answer."""
        self._started = swept = self._clock()
        try:
            while True:
                wait = self._start_what_is_due()
                if not self._pending and wait is None:
                    return
                for key, events in self._selector.select(_SWEEP_SECONDS if wait is None else min(wait, _SWEEP_SECONDS)):
                    self._advance(key.fileobj, events)  # type: ignore[arg-type] # only connections are registered
                if self._clock() - swept >= _SWEEP_SECONDS:
                    swept = self._clock()
                    self._give_up_on_the_silent(swept)
        finally:
            for connection in [*self._idle, *self._pending]:
                connection.close()
            self._selector.close()

    def _start_what_is_due(self) -> float | None:
        """Send what is due; returns the seconds until the next request, None if an answer must come first."""
        if not self._plan.rates:
            while self._number < self._plan.requests and len(self._pending) < self._plan.concurrency:
                now = self._clock()
                self._start(now, now, 0)
            return None
        while self._next is not None:
            due, now = self._started + self._next.seconds, self._clock()
            if due > now:
                return due - now
            self._start(due, now, self._next.step)
            self._next = next(self._arrivals, None)
        return None

    def _start(self, due: float, now: float, step: int) -> None:
        request = self._requests[self._number % len(self._requests)]
        self._number += 1
        pending = _Pending(due, now, step, now)
        try:
            connection = self._idle.pop() if self._idle else self._connect()
        except OSError as error:
            self._end(pending, 0, detail=str(error))
            return
        self._pending[connection] = pending
        connection.send(request)
        self._advance(connection, 0)

    def _connect(self) -> Connection:
        connection = Connection(self._endpoint)
        self._selector.register(connection, connection.events, connection.events)
        return connection

    def _advance(self, connection: Connection, events: int) -> None:
        pending = self._pending.get(connection)
        if pending is not None and events:
            pending.active = self._clock()
        try:
            response = connection.advance(events)
        except (OSError, ResponseError) as error:
            self._drop(connection)
            if pending is not None:
                self._end(pending, 0, detail=str(error) or type(error).__name__)
            return
        if response is None:
            self._wait_for(connection)
            return
        if response.reusable:
            self._wait_for(connection)
            del self._pending[connection]
            self._idle.append(connection)
        else:
            self._drop(connection)
        if pending is not None:
            self._answered(pending, response)

    def _wait_for(self, connection: Connection) -> None:
        key = self._selector.get_key(connection)
        if key.data != connection.events:
            self._selector.modify(connection, connection.events, connection.events)

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection)
        with suppress(OSError):
            connection.close()
        if self._pending.pop(connection, None) is None:
            self._idle.remove(connection)

    def _give_up_on_the_silent(self, now: float) -> None:
        for connection, pending in list(self._pending.items()):
            if now - pending.active > TIMEOUT_SECONDS:
                self._drop(connection)
                self._end(pending, 0, detail=f"nothing was sent or received for {TIMEOUT_SECONDS:g} s")

    def _answered(self, pending: _Pending, response: Response) -> None:
        if response.status != 200:
            code, detail = problem_of(response.body)
            self._end(pending, response.status, code=code, detail=detail)
        elif (price := price_of(response.body)) is None:
            self._end(pending, 0, detail=NO_CLASSIFICATION)
        else:
            self._end(pending, 200, price)

    def _end(
        self,
        pending: _Pending,
        status: int,
        price: tuple[float, float] = (0.0, 0.0),
        code: str | None = None,
        detail: str | None = None,
    ) -> None:
        self._done(
            Sample(pending.due, self._clock(), status, *price, code, detail, pending.sent - pending.due, pending.step)
        )


def run(
    plan: Plan, endpoint: Endpoint, done: Callable[[Sample], None], clock: Callable[[], float] = time.perf_counter
) -> None:
    """Send the load; ``done`` is told of each request as it ends."""
    _permit_many_connections()
    Load(plan, endpoint, done, clock).run()


def _permit_many_connections() -> None:
    """A service that cannot keep up with an open loop leaves connections open by the hundred."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def price_of(body: bytes) -> tuple[float, float] | None:
    """GFLOPs that an answer says it cost, and those without exit; None if it is no classification."""
    try:
        compute = json.loads(body)["compute"]
        return float(compute["gflops"]), float(compute["gflops_full"])
    except (ValueError, LookupError, TypeError):
        return None


def problem_of(body: bytes) -> tuple[str | None, str | None]:
    """Code and detail of a refusal, each None where it is not told: a proxy in between knows neither."""
    try:
        told = json.loads(body)
    except ValueError:
        return None, None
    code, detail = (told.get(name) if isinstance(told, dict) else None for name in ("code", "detail"))
    return code if isinstance(code, str) else None, detail if isinstance(detail, str) else None

"""The plan of a load: clips, parameters, and the time at which each request is due."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Plan:
    """A load on one service.

    In a *closed* loop (no ``rates``), ``concurrency`` clients each wait for their answer before they send again. In an
    *open* loop, requests arrive at random moments of a given mean rate (Poisson), whether or not the service keeps up:
    only this shows what waiting costs.

    Attributes:
        url: of the service.
        clips: contents of the videos, sent in turn.
        parameters: query parameters of each request.
        requests: how many to send; ignored if ``step_seconds`` is given.
        rates: open loop: mean requests per second of each step.
        step_seconds: how long each rate lasts. None: the only rate lasts for ``requests``.
        concurrency: closed loop: number of clients.
        seed: of the arrivals of an open loop.
        key: API key.
    """

    url: str
    clips: Sequence[bytes]
    parameters: dict[str, str]
    requests: int
    rates: tuple[float, ...] = ()
    step_seconds: float | None = None
    concurrency: int = 1
    seed: int = 0
    key: str | None = None

    def __post_init__(self) -> None:
        if len(self.rates) > 1 and self.step_seconds is None:
            raise ValueError(f"{len(self.rates)} rates need step_seconds")


class Arrival(NamedTuple):
    """The time at which a request of an open loop is due, in seconds after the start, and the index of its rate."""

    seconds: float
    step: int


def arrivals(plan: Plan) -> Iterator[Arrival]:
    """The requests of an open loop, in order; the same for the same seed.

    A Poisson process has no memory, so each step starts afresh at its boundary.
    """
    chance = random.Random(plan.seed)  # noqa: S311 - arrivals, not secrets
    if plan.step_seconds is None:
        due = 0.0
        for _ in range(plan.requests):
            due += chance.expovariate(plan.rates[0])
            yield Arrival(due, 0)
        return
    for step, rate in enumerate(plan.rates):
        due = step * plan.step_seconds + chance.expovariate(rate)
        while due < (step + 1) * plan.step_seconds:
            yield Arrival(due, step)
            due += chance.expovariate(rate)

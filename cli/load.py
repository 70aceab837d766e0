"""Puts load on a running service, in an open or a closed loop, and sums up the results.

In a *closed* loop, a number of clients each wait for an answer before they send the next request: this measures
throughput at a given concurrency. In an *open* loop, requests are sent at random moments with a given mean rate
(Poisson), whether or not the service keeps up. Only an open loop shows how long requests wait, so its latency is
measured from the moment at which a request was due.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import httpx

PERCENTILES = (50, 90, 95, 99)
NO_CLASSIFICATION = "the server returned 200 but not a classification"


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was due and answered (seconds of one clock), its status (0 without an answer), and its cost.

    ``code`` and ``detail`` come from a refusal, if it has them; without an answer, ``detail`` says why.
    """

    due: float
    answered: float
    status: int
    gflops: float = 0.0
    gflops_full: float = 0.0
    code: str | None = None
    detail: str | None = None

    @property
    def seconds(self) -> float:
        """Seconds from the moment at which the request was due to its answer."""
        return self.answered - self.due


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send.

    Attributes:
        url: of the service.
        clips: contents of the videos, which are sent in turn.
        parameters: query parameters of each request.
        requests: number of requests.
        rate: open loop: requests per second on average. None: closed loop.
        concurrency: closed loop: number of clients.
        seed: random seed of the arrivals.
        key: API key.
    """

    url: str
    clips: Sequence[bytes]
    parameters: dict[str, str]
    requests: int
    rate: float | None = None
    concurrency: int = 1
    seed: int = 0
    key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """Headers of each request."""
        return {} if self.key is None else {"Authorization": f"Bearer {self.key}"}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Requests with the same status other than 200 (0: no answer) and code, and the detail of the first of them."""

    status: int
    code: str | None
    detail: str | None
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a load; latencies are those of answered requests.

    ``goodput`` is the number of answers per second that came within the objective. ``refusals`` begin with the most
    frequent.
    """

    requests: int
    answered: int
    seconds: float
    throughput: float
    goodput: float
    slo_ms: float
    latency_ms: dict[str, float]
    gflops_per_request: float
    share_of_full: float
    statuses: dict[str, int] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)

    @property
    def mostly_answered(self) -> bool:
        """Whether at least half of the requests were answered."""
        return 2 * self.answered >= self.requests


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` % of the values do not exceed; NaN without values."""
    if not ascending:
        return float("nan")
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(0, int(rank) - 1)]


def report(samples: Sequence[Sample], slo_ms: float) -> Report:
    """Sum up the samples of a load.

    Args:
        samples: at least one.
        slo_ms: the latency objective.
    """
    good = [sample for sample in samples if sample.status == 200]
    latencies = sorted(sample.seconds * 1e3 for sample in good)
    seconds = max(sample.answered for sample in samples) - min(sample.due for sample in samples)
    spent, full = sum(sample.gflops for sample in good), sum(sample.gflops_full for sample in good)
    per_second = 1 / seconds if seconds > 0 else 0.0
    return Report(
        requests=len(samples),
        answered=len(good),
        seconds=seconds,
        throughput=len(good) * per_second,
        goodput=sum(value <= slo_ms for value in latencies) * per_second,
        slo_ms=slo_ms,
        latency_ms={f"p{percent}": percentile(latencies, percent) for percent in PERCENTILES},
        gflops_per_request=spent / len(good) if good else 0.0,
        share_of_full=spent / full if full else 0.0,
        statuses={str(status): count for status, count in sorted(Counter(s.status for s in samples).items())},
        refusals=_refusals(samples),
    )


def _refusals(samples: Sequence[Sample]) -> list[Refusal]:
    refused = [sample for sample in samples if sample.status != 200]
    first = {(sample.status, sample.code): sample for sample in reversed(refused)}
    kinds = Counter((sample.status, sample.code) for sample in refused)
    return [Refusal(*kind, first[kind].detail, count) for kind, count in kinds.most_common()]


async def run(plan: Plan, done: Callable[[Sample], None], clock: Callable[[], float] = time.perf_counter) -> None:
    """Send the load; ``done`` is called with each request as it ends."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=plan.url, headers=plan.headers, timeout=60.0, limits=limits) as client:
        if plan.rate is None:
            numbers = iter(range(plan.requests))

            async def user() -> None:
                for number in numbers:
                    done(await _ask(client, plan, number, clock(), clock))

            await asyncio.gather(*(user() for _ in range(plan.concurrency)))
            return

        async def one(number: int, due: float) -> None:
            done(await _ask(client, plan, number, due, clock))

        async with asyncio.TaskGroup() as group:
            number = 0
            async for due in _arrivals(plan, plan.rate, clock):
                group.create_task(one(number, due))
                number += 1


async def _arrivals(plan: Plan, rate: float, clock: Callable[[], float]) -> AsyncIterator[float]:
    """Yield the moment at which each request is due; a request that starts late does not delay the following ones."""
    chance = random.Random(plan.seed)  # noqa: S311 - arrivals are not secrets
    due = clock()
    for _ in range(plan.requests):
        due += chance.expovariate(rate)
        await asyncio.sleep(max(0.0, due - clock()))
        yield due


async def _ask(client: httpx.AsyncClient, plan: Plan, number: int, due: float, clock: Callable[[], float]) -> Sample:
    try:
        answer = await client.post("/classify", content=plan.clips[number % len(plan.clips)], params=plan.parameters)
    except httpx.HTTPError as error:
        return Sample(due, clock(), 0, detail=str(error) or type(error).__name__)
    answered = clock()
    if answer.status_code != 200:
        code, detail = problem_of(answer)
        return Sample(due, answered, answer.status_code, code=code, detail=detail)
    price = price_of(answer)
    if price is None:
        return Sample(due, answered, 0, detail=NO_CLASSIFICATION)
    return Sample(due, answered, 200, *price)


def price_of(answer: httpx.Response) -> tuple[float, float] | None:
    """GFLOPs of an answer, and of the same answer without early exit; None if it is not a classification."""
    try:
        compute = answer.json()["compute"]
        return float(compute["gflops"]), float(compute["gflops_full"])
    except (ValueError, LookupError, TypeError):
        return None


def problem_of(answer: httpx.Response) -> tuple[str | None, str | None]:
    """Code and detail of a refusal; each is None if the body does not have it, as that of a proxy in between."""
    try:
        told = answer.json()
    except ValueError:
        return None, None
    code, detail = (told.get(name) if isinstance(told, dict) else None for name in ("code", "detail"))
    return code if isinstance(code, str) else None, detail if isinstance(detail, str) else None

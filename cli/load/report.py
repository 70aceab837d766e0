"""Sums up a load: throughput, latency, goodput, cost, refusals, and whether the load was sent as asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from adafocus.cli.load.plan import Plan

PERCENTILES = (50, 90, 95, 99)
NO_CLASSIFICATION = "the server returned 200 but not a classification"
LATE_MS = 10.0
"""A request of an open loop that is sent later than this after it was due counts as late."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: when it was due and answered (seconds on one clock), its status (0: none came), and its cost.

    ``code`` and ``detail`` are of a refusal, as far as it said them; ``detail`` also says why no answer came.
    ``late`` is how many seconds after it was due the generator began to send it, ``step`` the index of its rate.
    """

    due: float
    answered: float
    status: int
    gflops: float = 0.0
    gflops_full: float = 0.0
    code: str | None = None
    detail: str | None = None
    late: float = 0.0
    step: int = 0

    @property
    def seconds(self) -> float:
        """From the moment it was due to its answer."""
        return self.answered - self.due


@dataclass(frozen=True, slots=True)
class Refusal:
    """Requests that were answered otherwise than with 200 (status 0: not at all), and what the first was told."""

    status: int
    code: str | None
    detail: str | None
    count: int


@dataclass(frozen=True, slots=True)
class RateResult:
    """The results of the requests that were due while one rate lasted; fields as in `LoadReport`.

    ``rate`` is the one that was asked for, ``offered`` is the rate that chance made of it.
    """

    rate: float
    offered: float
    requests: int
    answered: int
    throughput: float
    goodput: float
    latency_ms: dict[str, float]
    sent_late: int
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """The results of a load; milliseconds are of answered requests.

    ``goodput`` counts answers within the objective, per second. ``refusals`` begin with the most frequent.
    ``sent_late`` counts requests of an open loop that the generator sent more than `LATE_MS` after they were due,
    ``most_late_ms`` is the worst; ``generator_cpu_ms`` is its own processor time per request. ``steps`` are those of
    a load with several rates.
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
    sent_late: int = 0
    most_late_ms: float = 0.0
    generator_cpu_ms: float = 0.0
    steps: list[RateResult] = field(default_factory=list)

    @property
    def mostly_answered(self) -> bool:
        """True if at least half of the requests were answered."""
        return 2 * self.answered >= self.requests

    @property
    def kept_rate(self) -> bool:
        """True if at most one in a hundred requests was sent late."""
        return 100 * self.sent_late <= self.requests


def percentile(ascending: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of them do not exceed; NaN of none."""
    if not ascending:
        return float("nan")
    rank = -(-len(ascending) * percent // 100)
    return ascending[max(0, int(rank) - 1)]


def report(samples: Sequence[Sample], slo_ms: float, plan: Plan | None = None, cpu_seconds: float = 0.0) -> LoadReport:
    """Sum up a load.

    Args:
        samples: at least one.
        slo_ms: the objective for a request's latency.
        plan: that was followed; with several rates, each is summed up too.
        cpu_seconds: processor time that sending it took.
    """
    good = [sample for sample in samples if sample.status == 200]
    latencies = sorted(sample.seconds * 1e3 for sample in good)
    seconds = max(sample.answered for sample in samples) - min(sample.due for sample in samples)
    spent, full = sum(sample.gflops for sample in good), sum(sample.gflops_full for sample in good)
    per_second = 1 / seconds if seconds > 0 else 0.0
    return LoadReport(
        requests=len(samples),
        answered=len(good),
        seconds=seconds,
        throughput=len(good) * per_second,
        goodput=sum(value <= slo_ms for value in latencies) * per_second,
        slo_ms=slo_ms,
        latency_ms=_percentiles(latencies),
        gflops_per_request=spent / len(good) if good else 0.0,
        share_of_full=spent / full if full else 0.0,
        statuses=_statuses(samples),
        refusals=_refusals(samples),
        sent_late=_late(samples),
        most_late_ms=max(sample.late for sample in samples) * 1e3,
        generator_cpu_ms=cpu_seconds * 1e3 / len(samples),
        steps=[] if plan is None or plan.step_seconds is None else _steps(samples, slo_ms, plan, plan.step_seconds),
    )


def _steps(samples: Sequence[Sample], slo_ms: float, plan: Plan, step_seconds: float) -> list[RateResult]:
    """One for each rate, even if chance sent nothing in it."""
    steps = []
    for number, rate in enumerate(plan.rates):
        of_step = [sample for sample in samples if sample.step == number]
        latencies = sorted(sample.seconds * 1e3 for sample in of_step if sample.status == 200)
        # A service that falls behind answers after the step has ended; that time counts.
        seconds = step_seconds
        if of_step:
            seconds = max(seconds, max(sample.answered for sample in of_step) - min(sample.due for sample in of_step))
        steps.append(
            RateResult(
                rate=rate,
                offered=len(of_step) / step_seconds,
                requests=len(of_step),
                answered=len(latencies),
                throughput=len(latencies) / seconds,
                goodput=sum(value <= slo_ms for value in latencies) / seconds,
                latency_ms=_percentiles(latencies),
                sent_late=_late(of_step),
                statuses=_statuses(of_step),
            )
        )
    return steps


def _percentiles(ascending: Sequence[float]) -> dict[str, float]:
    return {f"p{percent}": percentile(ascending, percent) for percent in PERCENTILES}


def _late(samples: Sequence[Sample]) -> int:
    return sum(sample.late * 1e3 > LATE_MS for sample in samples)


def _statuses(samples: Sequence[Sample]) -> dict[str, int]:
    return {str(status): count for status, count in sorted(Counter(s.status for s in samples).items())}


def _refusals(samples: Sequence[Sample]) -> list[Refusal]:
    refused = [sample for sample in samples if sample.status != 200]
    first = {(sample.status, sample.code): sample for sample in reversed(refused)}
    kinds = Counter((sample.status, sample.code) for sample in refused)
    return [Refusal(*kind, first[kind].detail, count) for kind, count in kinds.most_common()]

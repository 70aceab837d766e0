"""Processes that count in one memory are one service."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adafocus.service.engine.shadow_evidence import ShadowEvidence
from adafocus.service.shadows import Shadows
from adafocus.service.telemetry.metrics import Metrics, layout_for
from adafocus.service.telemetry.series import SeriesMemory
from tests.bundle.factory import make_manifest

STEPS = 3


def told(metrics: Metrics) -> dict[tuple[str, ...], float]:
    families = text_string_to_metric_families(metrics.render("")[0].decode())
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
        if "_process_" not in sample.name and "model_info" not in sample.name
    }


def test_whichever_process_is_asked_the_answer_is_that_of_all() -> None:
    layout = layout_for(STEPS)
    fd = SeriesMemory.share(layout, 2)
    first, second = (Metrics(STEPS, SeriesMemory(layout, 2, fd), row) for row in range(2))
    first.request_finished("ok", 0.2)
    second.request_finished("ok", 0.4)
    for metrics, slots in ((first, 3), (second, 4)):
        metrics.slots(slots)
        metrics.queue_limit(64)
    first.ready(True)
    assert told(first) == told(second)
    assert told(first)["adafocus_requests_total", "ok"] == 2
    assert told(first)["adafocus_request_duration_seconds_count",] == 2
    assert told(first)["adafocus_request_duration_seconds_bucket", "0.3"] == 1
    assert told(first)["adafocus_slots",] == 7
    assert told(first)["adafocus_queue_limit",] == 64
    assert told(first)["adafocus_ready",] == 1
    os.close(fd)


def test_a_process_that_has_ended_leaves_its_counts_and_the_next_one_goes_on_counting() -> None:
    layout = layout_for(STEPS)
    fd = SeriesMemory.share(layout, 2)
    keeper = SeriesMemory(layout, 2, fd)
    first, second = (Metrics(STEPS, SeriesMemory(layout, 2, fd), row) for row in range(2))
    second.request_finished("ok", 0.2)
    second.slots(4)
    second.ready(True)
    keeper.end(1)
    assert told(first)["adafocus_requests_total", "ok"] == 1
    assert told(first)["adafocus_slots",] == told(first)["adafocus_ready",] == 0
    again = Metrics(STEPS, SeriesMemory(layout, 2, fd), 1)
    again.request_finished("ok", 0.2)
    assert told(first)["adafocus_requests_total", "ok"] == 2
    os.close(fd)


class Fronts:
    """Fronts that watch the exits of one service, each with the evidence of the videos that it happens to get."""

    def __init__(self, count: int, fd: int) -> None:
        self._layout, self._count, self._fd = layout_for(STEPS), count, fd
        self._keeper = SeriesMemory(self._layout, count, fd)
        self._started = [self._start(row) for row in range(count)]

    def compare(self, front: int, *, agrees: bool) -> None:
        self._started[front].compared("balanced", agrees=agrees)

    def restart(self, front: int) -> None:
        self._keeper.end(front)
        self._started[front] = self._start(front)

    @property
    def evidence(self) -> float:
        return told(self._metrics(0))["adafocus_shadow_evidence",]

    def _metrics(self, row: int) -> Metrics:
        return Metrics(STEPS, SeriesMemory(self._layout, self._count, self._fd), row)

    def _start(self, row: int) -> Shadows:
        return Shadows(1.0, self._metrics(row), ShadowEvidence(make_manifest()))


@contextmanager
def fronts(count: int) -> Iterator[Fronts]:
    fd = SeriesMemory.share(layout_for(STEPS), count)
    try:
        yield Fronts(count, fd)
    finally:
        os.close(fd)


def test_fronts_multiply_their_evidence_and_one_that_saw_nothing_changes_nothing() -> None:
    with fronts(3) as service:
        assert service.evidence == 0
        alone = ShadowEvidence(make_manifest())
        for _ in range(5):
            service.compare(0, agrees=False)
            strength = alone.take("balanced", agrees=False)
        assert service.evidence == pytest.approx(strength)
        service.compare(1, agrees=True)
        assert service.evidence < strength


def test_a_front_that_is_started_again_goes_on_from_the_evidence_of_the_one_before() -> None:
    with fronts(2) as service:
        for _ in range(40):
            service.compare(1, agrees=True)
        before = service.evidence
        assert before < 0.9
        service.restart(1)
        assert service.evidence == pytest.approx(before)
        service.compare(1, agrees=True)
        assert service.evidence < before

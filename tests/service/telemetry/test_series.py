"""Processes that count in one memory are one service."""

import os

from prometheus_client.parser import text_string_to_metric_families

from adafocus.service.telemetry.metrics import Metrics, layout_for
from adafocus.service.telemetry.series import SeriesMemory

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

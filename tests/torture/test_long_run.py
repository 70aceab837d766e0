"""What the long run says about its samples."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.torture.long_run import SAMPLE_SECONDS, Sample, slope_an_hour, summary


def _samples(count: int, mb_a_second: float) -> list[Sample]:
    return [
        Sample(seconds := number * SAMPLE_SECONDS, 100 + mb_a_second * seconds, 50.0 + number % 2, 20 + number % 3, 5)
        for number in range(count)
    ]


def test_slope_of_a_straight_line_is_exact() -> None:
    slope, half = slope_an_hour([(float(second), 100 + 0.01 * second) for second in range(0, 1000, 5)])
    assert slope == pytest.approx(36.0)
    assert half == pytest.approx(0.0, abs=1e-6)


def test_summary_finds_growth_in_the_noise_of_the_decoders() -> None:
    row = summary(1.0, _samples(600, mb_a_second=0.01), Counter({"clip 200": 2, "clip 503": 1, "damaged 200": 1}))
    assert row["service_slope_mb_an_hour"] == pytest.approx(36.0)
    assert float(str(row["memory_slope_low"])) <= 36.0 <= float(str(row["memory_slope_high"]))
    assert row["requests"] == 4
    assert row["most_descriptors_second_half"] == 22
    assert json.loads(str(row["statuses"])) == {"200": 3, "503": 1}

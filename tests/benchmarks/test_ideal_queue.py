from __future__ import annotations

import pytest

from benchmarks.ideal_queue import latencies, p99_over_p50, row


def test_nobody_waits_for_a_queue_that_is_nearly_empty() -> None:
    assert latencies(2, 0.001, 1000, seed=0)[990] == pytest.approx(1.0)


def test_the_mean_is_that_of_the_formula() -> None:
    """Pollaczek and Khinchine: one server, constant times; the wait is share / (2 · (1 - share)) on average."""
    found = latencies(1, 0.8, 200_000, seed=3)
    assert sum(found) / len(found) == pytest.approx(1 + 0.8 / (2 * 0.2), rel=0.05)


def test_more_servers_and_less_load_bring_p99_nearer_to_p50() -> None:
    ratios = [p99_over_p50(latencies(servers, 0.8, 50_000, seed=0)) for servers in (1, 2, 8)]
    assert ratios == sorted(ratios, reverse=True)
    assert row(2, 0.5, 200, 10)["p99_over_p50"] < row(2, 0.8, 200, 10)["p99_over_p50"]  # type: ignore[operator]


@pytest.mark.parametrize("share", [0.0, 1.0, 1.5])
def test_a_queue_that_never_ends_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="share must be between 0 and 1"):
        latencies(1, share, 10, seed=0)

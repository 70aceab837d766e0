"""Capacity on paper: sums that are right, from figures that are there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.capacity_plan import BUSY, FEWEST_REPLICAS, Design, designs, need, sizes

MILLISECONDS = st.floats(0.001, 1e4)
RATE = st.floats(0.01, 1e6)


def test_a_need_is_what_one_works_out_by_hand() -> None:
    design = Design("d", service_ms=7, decode_ms=40, graphs_ms=0, gpu_ms=1.4)
    wanted = need(design, 1000, clip_bytes=1e6, row_bytes=1000)
    assert (wanted.processes, wanted.cores, wanted.gpus) == (10, 68, 2)
    assert wanted.gigabits_per_s == pytest.approx(8)
    assert wanted.videos_tb_per_day == pytest.approx(86.4)
    assert wanted.rows_gb_per_day == pytest.approx(86.4)


@given(service=MILLISECONDS, decode=MILLISECONDS, gpu=MILLISECONDS, rate=RATE)
def test_nothing_is_busier_than_it_may_be(service: float, decode: float, gpu: float, rate: float) -> None:
    design = Design("d", service, decode, gpu_ms=gpu)
    wanted = need(design, rate, 1, 1)
    for units, milliseconds in ((wanted.processes, service), (wanted.cores, design.core_ms), (wanted.gpus, gpu)):
        assert rate * milliseconds / 1e3 / units <= BUSY * (1 + 1e-6)
        assert units >= FEWEST_REPLICAS
    assert wanted.processes >= wanted.gpus, "a process uses one GPU"


def test_the_designs_come_out_of_the_results() -> None:
    for early, uniform in designs().values():
        assert early.service_ms > 0
        assert 0 < early.decode_ms < uniform.decode_ms
        assert (early.graphs_ms > 0) != (early.gpu_ms > 0)
        assert (uniform.graphs_ms > 0) == (early.graphs_ms > 0)
    assert all(size > 0 for size in sizes())

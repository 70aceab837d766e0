"""Points that are certified on clips of a pool, and judged on the others."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.training.evaluate.certified_points import Promises
from benchmarks.certified_sets import Pool, measure
from tests.training.evaluate.populations import POPULATIONS


def pool_of(clips: int, per_unit: int = 1) -> Pool:
    logits, truth = POPULATIONS["easy"].draw(clips, np.random.default_rng(0))
    return Pool(logits, truth, np.array([str(clip // per_unit) for clip in range(clips)]))


@settings(deadline=None)
@given(st.integers(1, 50), st.integers(1, 6), st.integers(0, 99))
def test_a_split_divides_no_unit_and_takes_no_more_than_one_too_many(clips: int, per_unit: int, seed: int) -> None:
    pool = pool_of(60, per_unit)
    mine, others = pool.split(clips, np.random.default_rng(seed))
    assert len(mine.units) + len(others.units) == 60
    assert not set(mine.units) & set(others.units)
    assert clips <= len(mine.units) < clips + per_unit


def test_promises_are_counted_where_they_are_made() -> None:
    rows = list(measure("easy", pool_of(1200), 400, 3, Promises((0.2,))))
    certified = {str(row["point"]): row for row in rows if row["way"] == "certified"}
    assert set(certified) == {"accurate", "balanced", "fast", "certified-20"}
    assert certified["balanced"]["certified"] == 3
    assert certified["accurate"]["certified"] == 0, "280 tested clips cannot certify 1 %"
    assert all(row["clips"] == 400 and row["judged"] == 800 for row in rows)
    assert not any(row["certified"] for row in rows if row["way"] == "rules")


def test_clips_of_one_unit_test_once() -> None:
    row = next(measure("easy", pool_of(300, per_unit=10), 100, 1, Promises()))
    assert (row["clips"], row["tested"]) == (100, 7)

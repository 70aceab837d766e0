"""The test behind a guarantee is exact, and its promise is kept on made populations."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.bundle.exit_rule import ExitRule
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.certify import (
    Exits,
    Ladder,
    best_ladder,
    certify,
    clips_needed,
    failures_allowed,
    level_ladder,
    ratio_ladder,
    smallest_epsilon,
    split_units,
)
from adafocus.training.evaluate.metrics import Indices
from tests.training.evaluate.populations import POPULATIONS

RULE = ExitRule("max_softmax", (1.0,) * 8)
CALIBRATIONS = 80


@pytest.mark.parametrize(("epsilon", "clips"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_no_failure_certifies_with_the_known_number_of_clips(epsilon: float, clips: int) -> None:
    assert clips_needed(epsilon, 0.95) == clips
    assert failures_allowed(clips, epsilon, 0.95) == 0
    assert failures_allowed(clips - 1, epsilon, 0.95) == -1
    assert smallest_epsilon(clips, 0.95) <= epsilon < smallest_epsilon(clips - 1, 0.95)
    assert smallest_epsilon(0, 0.95) == 1.0


@given(st.integers(0, 200), st.integers(1, 40), st.integers(51, 99))
@settings(max_examples=50, deadline=None)
def test_failures_allowed_is_the_exact_binomial_test(clips: int, percent: int, confidence: int) -> None:
    risk, alpha = Fraction(percent, 100), Fraction(100 - confidence, 100)

    def p_value(failures: int) -> Fraction:
        return sum(
            (math.comb(clips, k) * risk**k * (1 - risk) ** (clips - k) for k in range(failures + 1)), start=Fraction(0)
        )

    allowed = failures_allowed(clips, percent / 100, confidence / 100)
    assert allowed < 0 or p_value(allowed) <= alpha
    assert allowed == clips or p_value(allowed + 1) > alpha


def test_many_clips_are_counted_without_underflow() -> None:
    assert 4_700 < failures_allowed(100_000, 0.05, 0.95) < 5_000


def draw(name: str, clips: int, seed: int) -> Exits:
    logits, labels = POPULATIONS[name].draw(clips, np.random.default_rng(seed))
    return Exits.of(logits, RULE, labels)


def test_ladders_run_from_never_exiting_to_the_first_step() -> None:
    fit = draw("late", 300, 0)
    for ladder in (ratio_ladder(fit), level_ladder(fit)):
        assert ladder[0] == (None,) * 8
        means = np.array([fit.steps(row).mean() for row in ladder])
        assert means[0] == 7
        assert means[-1] < 1
        assert (np.diff(means) <= 0.05).all()
    levels = level_ladder(fit)
    assert all(len(set(row[:-1])) == 1 and row[-1] is None for row in levels)


def test_the_first_failing_row_ends_the_sequence() -> None:
    """A row that would pass after one that fails is not reached."""
    answers = np.zeros((400, 3), dtype=np.int64)
    answers[:100, 0] = 1  # the first step is wrong for a quarter, the second never
    test = Exits(np.ones((400, 3), np.float32), answers, None)
    ladder: Ladder = ((None, None, None), (0.5, None, None), (None, 0.5, None))
    found = certify(ladder, test, "answer_changed", 0.05, 0.95)
    assert found is not None
    assert found.thresholds == ladder[0]
    assert (found.guarantee.failures, found.guarantee.clips) == (0, 400)
    assert certify(ladder[:1] + ladder[2:], test, "answer_changed", 0.05, 0.95).thresholds == ladder[2]  # type: ignore[union-attr]
    assert certify(ladder, test.only(np.arange(58)), "answer_changed", 0.05, 0.95) is None


def test_risks_count_other_failures() -> None:
    logits = np.zeros((4, 2, 2), np.float32)
    logits[0, :, 0] = 1  # 0 → 0
    logits[1, 0, 0] = logits[1, 1, 1] = 1  # 0 → 1, right at the end
    logits[2, 0, 0] = logits[2, 1, 1] = 1  # 0 → 1, wrong at the end
    logits[3, :, 1] = 1
    exits = Exits.of(logits, ExitRule("max_softmax", (1.0, 1.0)), np.array([0, 1, 0, 0]))
    assert exits.failures("answer_changed")[:, 0].tolist() == [False, True, True, False]
    assert exits.failures("right_answer_lost")[:, 0].tolist() == [False, True, False, False]
    several = np.array([[1, 1]] * 4, dtype=np.bool_)
    assert not Exits.of(logits, ExitRule("max_softmax", (1.0, 1.0)), several).failures("right_answer_lost").any()
    with pytest.raises(CalibrationError, match="needs labelled clips"):
        Exits.of(logits, ExitRule("max_softmax", (1.0, 1.0))).failures("right_answer_lost")


@pytest.mark.parametrize("logits", [np.zeros((0, 2, 3), np.float32), np.full((2, 2, 3), np.nan, np.float32)])
def test_logits_are_checked(logits: np.ndarray) -> None:
    with pytest.raises(CalibrationError, match="finite numbers"):
        Exits.of(logits, ExitRule("max_softmax", (1.0, 1.0)))


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_units_stay_together_and_give_one_tested_clip_each(numbers: list[int], seed: int) -> None:
    units = [f"unit {number}" for number in numbers]
    fits, tested = split_units(units, seed=seed)
    fitting = {unit for unit, fit in zip(units, fits, strict=True) if fit}
    assert sorted({units[index] for index in tested}) == sorted(set(units) - fitting)
    assert len(tested) == len(set(units) - fitting)
    order = np.random.default_rng(0).permutation(len(units))
    again, _ = split_units([units[index] for index in order], seed=seed)
    assert (again == fits[order]).all()


@pytest.fixture(scope="module", params=sorted(POPULATIONS))
def pool(request: pytest.FixtureRequest) -> Exits:
    """A finite population: clips are drawn from it with replacement, so the true risk of a row can be counted."""
    return draw(request.param, 8_000, 11)


def true_risk(pool: Exits, thresholds: tuple[float | None, ...]) -> float:
    return float(pool.failures("answer_changed")[np.arange(len(pool.answers)), pool.steps(thresholds)].mean())


def parts(pool: Exits, clips: int, random: np.random.Generator) -> tuple[Exits, Exits]:
    drawn: Indices = random.integers(0, len(pool.answers), clips)
    return pool.only(drawn[: round(0.3 * clips)]), pool.only(drawn[round(0.3 * clips) :])


@pytest.mark.parametrize("clips", [100, 250, 600, 1500])
def test_the_promise_is_kept(pool: Exits, clips: int) -> None:
    """In at most 5 % of calibrations, and three standard errors, is the true risk above epsilon."""
    epsilon, random, broken = 0.05, np.random.default_rng(clips), 0
    for _ in range(CALIBRATIONS):
        fit, test = parts(pool, clips, random)
        row = certify(best_ladder(fit, "answer_changed", (epsilon,)), test, "answer_changed", epsilon, 0.95)
        assert row is not None
        broken += true_risk(pool, row.thresholds) > epsilon
    assert broken / CALIBRATIONS <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / CALIBRATIONS)


def test_without_the_test_the_promise_would_break() -> None:
    """The simulation can tell: the fastest row that fails rarely on the clips that fit it breaks the promise often."""
    pool, epsilon, random, broken = draw("misled", 8_000, 11), 0.05, np.random.default_rng(1), 0
    for _ in range(CALIBRATIONS):
        fit, _ = parts(pool, 250, random)
        failures, rows = fit.failures("answer_changed"), np.arange(len(fit.answers))
        passing = [row for row in level_ladder(fit) if failures[rows, fit.steps(row)].mean() <= epsilon]
        broken += true_risk(pool, passing[-1]) > epsilon
    assert broken / CALIBRATIONS > 0.2

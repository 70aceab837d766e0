"""Exits after the glance in calibration and evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.calibrate import calibrate
from adafocus.training.evaluate.certified_points import Clips, Promises, calibrate_certified
from adafocus.training.evaluate.exit_layout import ExitLayout, interleaved, split_by_component
from adafocus.training.evaluate.metrics import Indices, Logits
from adafocus.training.evaluate.report import Glances, evaluate
from tests.training.evaluate.populations import POPULATIONS

GLANCE_SHARE = 0.2
STEPS = 8


def draw(clips: int, seed: int, *, glance_is_right: float) -> tuple[Logits, Logits, Indices]:
    """Step logits, glance logits of which a share is sure and right and the others know nothing, and labels."""
    random = np.random.default_rng(seed)
    logits, labels = POPULATIONS["easy"].draw(clips, random)
    glances = random.normal(0, 0.3, logits.shape).astype(np.float32)
    sure = random.random(clips) < glance_is_right
    glances[sure, :, labels[sure]] += 9.0
    return logits, glances, labels


def solved(clips: int, *, glance_is_right: float, layout: ExitLayout | None) -> dict[str, float]:
    logits, glances, labels = draw(clips, 1, glance_is_right=glance_is_right)
    used = logits if layout is None else interleaved(glances, logits)
    per_exit = 1 / used.shape[1]
    found = calibrate_certified(
        Clips(used, [str(index) for index in range(clips)]), labels, per_exit, promises=Promises(), layout=layout
    )
    return {point.name: point.expected_gflops for point in found.calibration.points}


def test_costs_rise_to_that_of_full_compute() -> None:
    assert ExitLayout.of_steps(4).costs.tolist() == [0.25, 0.5, 0.75, 1.0]
    layout = ExitLayout.with_glances(2, 0.2)
    assert layout.costs.tolist() == pytest.approx([0.1, 0.5, 0.6, 1.0])
    assert [family.tolist() for family in layout.families] == [
        [False, True, False, True],
        [True, True, False, True],
        [True, True, True, True],
    ]


def test_exits_are_interleaved_and_split_again() -> None:
    logits, glances, labels = draw(400, 0, glance_is_right=0.8)
    both = interleaved(glances, logits)
    assert np.array_equal(both[:, ::2], glances)
    assert np.array_equal(both[:, 1::2], logits)
    layout = ExitLayout.with_glances(STEPS, GLANCE_SHARE)
    found = calibrate(both, labels, 1 / (2 * STEPS), layout=layout)
    split = split_by_component(found)
    for point, before in zip(split.points, found.points, strict=True):
        assert point.thresholds == before.thresholds[1::2]
        assert sum(point.exit_shares) == pytest.approx(1.0)
        assert len(point.exit_shares) == STEPS
        assert point.glance_thresholds in (None, before.thresholds[::2])
    assert split.glance_temperatures is not None
    assert len(split.exit_rule.temperatures) == len(split.glance_temperatures) == STEPS
    fast = next(point for point in split.points if point.name == "fast")
    assert fast.glance_thresholds is not None
    assert fast.glance_thresholds[0] is not None


def test_a_sure_glance_makes_certified_points_cheaper() -> None:
    layout = ExitLayout.with_glances(STEPS, GLANCE_SHARE)
    without = solved(1500, glance_is_right=0.9, layout=None)
    withal = solved(1500, glance_is_right=0.9, layout=layout)
    assert withal["full"] == pytest.approx(without["full"])
    for name in ("balanced", "fast"):
        assert withal[name] < 0.6 * without[name]


def test_a_glance_that_knows_nothing_costs_nothing() -> None:
    layout = ExitLayout.with_glances(STEPS, GLANCE_SHARE)
    without = solved(1500, glance_is_right=0.0, layout=None)
    withal = solved(1500, glance_is_right=0.0, layout=layout)
    for name in ("accurate", "balanced", "fast"):
        assert withal[name] <= 1.1 * without[name]


def test_a_clip_model_may_exit_after_its_glances() -> None:
    logits, glances, labels = draw(600, 3, glance_is_right=0.9)
    both = interleaved(glances[:, :1], logits[:, -1:])
    layout = ExitLayout.with_glances(1, GLANCE_SHARE)
    found = split_by_component(calibrate(both, labels, 0.5, layout=layout))
    cheapest = min(found.points, key=lambda point: point.expected_gflops)
    assert cheapest.glance_thresholds is not None
    assert cheapest.expected_gflops < 0.4
    assert (cheapest.thresholds, cheapest.exit_shares) == ((None,), (1.0,))


def test_evaluation_applies_exits_after_the_glance_as_the_service_does() -> None:
    logits, glances, labels = draw(500, 4, glance_is_right=0.9)
    layout = ExitLayout.with_glances(STEPS, GLANCE_SHARE)
    found = split_by_component(calibrate(interleaved(glances, logits), labels, 1 / (2 * STEPS), layout=layout))
    names = [str(index) for index in range(logits.shape[2])]
    report = evaluate(logits, labels, names, 1 / STEPS, found, glances=Glances(glances, GLANCE_SHARE))
    for solved_point, measured in zip(found.points, report.points, strict=True):
        assert measured.gflops == pytest.approx(solved_point.expected_gflops)
        assert measured.accuracy == pytest.approx(solved_point.expected_accuracy)
        assert measured.exit_shares == pytest.approx(solved_point.exit_shares)
    with pytest.raises(CalibrationError, match="exits after the glance; its logits are needed"):
        evaluate(logits, labels, names, 1 / STEPS, found)

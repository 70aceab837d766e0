"""Thresholds of labels, and exits of models of several labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.bundle.exit_rule import ExitRule, confidence, decision_logits, label_probabilities
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.certified_points import Clips, Promises, calibrate_certified
from adafocus.training.evaluate.metrics import Logits, label_sets
from adafocus.training.evaluate.multi_label import (
    LabelRule,
    MissedLabels,
    best_f1_threshold,
    fit_labels,
    found_threshold,
)
from adafocus.training.evaluate.report import evaluate

STEPS, LABELS = 6, 5


def draw(clips: int, seed: int = 0, *, hard: float = 0.3) -> tuple[Logits, np.ndarray]:
    """Logits of a population whose evidence for some videos comes late, and which labels they have, perhaps none."""
    random = np.random.default_rng(seed)
    truth = random.random((clips, LABELS)) < np.linspace(0.1, 0.5, LABELS)
    ready = np.where(random.random(clips) < hard, random.integers(1, STEPS, clips), 0)
    seen = np.arange(STEPS)[None, :] >= ready[:, None]
    signal = np.where(truth[:, None], 5.0, -5.0) * np.where(seen, 1.0, 0.15)[:, :, None]
    noise = random.normal(0, 1.2, (clips, 1, LABELS)) + random.normal(0, 0.4, (clips, STEPS, LABELS))
    return (signal + noise + 1.5).astype(np.float32), truth


def certified(clips: int, **changes: object) -> object:
    logits, truth = draw(clips)
    units = [str(index) for index in range(clips)]
    return calibrate_certified(Clips(logits, units), truth, 1 / STEPS, "label_margin", **changes)  # type: ignore[arg-type]


@given(
    st.lists(st.tuples(st.floats(0.001, 0.999), st.booleans()), min_size=1, max_size=30),
)
def test_no_other_threshold_has_a_better_f1(rows: list[tuple[float, bool]]) -> None:
    scores, has = np.array([score for score, _ in rows]), np.array([value for _, value in rows])

    def f1(threshold: float) -> float:
        found = scores > threshold
        return float(2 * (found & has).sum() / max(1, found.sum() + has.sum()))

    best = best_f1_threshold(scores, has)
    if has.any():
        assert f1(best) >= max(f1(value) for value in (0.0, *scores)) - 1e-9
    else:
        assert best == 0.5


def test_a_promise_about_missed_labels_is_kept_on_other_videos() -> None:
    missed, broken, tries = MissedLabels(0.1), 0, 200
    random = np.random.default_rng(5)
    for _ in range(tries):
        threshold = found_threshold(random.beta(4, 2, size=80), missed)
        assert threshold is not None
        others = random.beta(4, 2, size=4000)
        broken += (others <= threshold).mean() > missed.epsilon
    assert broken / tries <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / tries)
    assert found_threshold(np.linspace(0.1, 0.9, 28), missed) is None, "29 are needed for 10 % at 95 %"


def test_a_label_that_few_clips_have_is_named() -> None:
    logits, truth = draw(120)
    truth[:, 0] = False
    truth[:3, 0] = True
    rule = fit_labels(logits, truth, MissedLabels(0.1))
    assert 0 in rule.uncertified
    assert 4 not in rule.uncertified
    found = truth[:, 4] & (rule.decisions(logits)[:, -1, 4] <= 0)
    assert found.sum() / truth[:, 4].sum() <= 0.1
    with pytest.raises(CalibrationError, match="clips that may have several labels"):
        fit_labels(logits, truth.argmax(axis=1))


@settings(max_examples=30)
@given(st.integers(0, 1000), st.floats(0.3, 3.0))
def test_the_service_decides_as_the_calibration_does(seed: int, heat: float) -> None:
    logits, _ = draw(40, seed)
    rule = LabelRule((heat,) * STEPS, tuple(np.linspace(0.2, 0.8, LABELS)))
    served = ExitRule("label_margin", rule.temperatures, rule.thresholds)
    decided = rule.decisions(logits)
    assert np.array_equal(served.of_all_steps(logits), confidence(decided, "label_margin"))
    assert np.array_equal(served.present(logits[:, 2], 2), decided[:, 2] > 0)
    above = label_probabilities(logits[:, 2], heat) > np.array(rule.thresholds)
    sure = np.abs(decided[:, 2]) > 1e-4
    assert np.array_equal((decided[:, 2] > 0)[sure], above[sure])


def test_an_undecided_label_keeps_a_video_in() -> None:
    thresholds = (0.5, 0.9)
    certain = decision_logits(np.array([8.0, 9.0], np.float32), thresholds)
    undecided = decision_logits(np.array([8.0, np.log(9.0)], np.float32), thresholds)
    assert confidence(certain, "label_margin") > 0.99
    assert confidence(undecided, "label_margin") == pytest.approx(0.0, abs=1e-6)


def test_sets_of_labels_are_equal_where_their_numbers_are() -> None:
    decided = np.array([[[1, -1, 2], [3, -2, 1]], [[-1, -1, 2], [1, 1, 1]]], dtype=np.float32)
    numbers = label_sets(decided)
    assert numbers[0, 0] == numbers[0, 1]
    assert len({int(numbers[0, 0]), int(numbers[1, 0]), int(numbers[1, 1])}) == 3


def test_points_are_certified_on_whole_sets_of_labels() -> None:
    found = certified(2000, promises=Promises((0.05,)))
    calibration = found.calibration  # type: ignore[attr-defined]
    points = {point.name: point for point in calibration.points}
    assert calibration.criterion == "label_margin"
    assert len(calibration.label_thresholds) == LABELS
    assert points["certified-5"].guarantee is not None
    assert points["certified-5"].expected_gflops < 0.7
    assert calibration.default == "certified-5"
    logits, _ = draw(20_000, seed=9)
    rule = calibration.exit_rule
    sure, sets = (
        rule.of_all_steps(logits),
        label_sets(LabelRule(rule.temperatures, rule.label_thresholds).decisions(logits)),
    )
    row = np.array([np.inf if value is None else value for value in points["certified-5"].thresholds])
    row[-1] = -np.inf
    left = (sure >= row).argmax(axis=1)
    assert (sets[np.arange(len(sets)), left] != sets[:, -1]).mean() <= 0.055


def test_the_default_is_no_point_whose_rule_failed() -> None:
    logits, truth = draw(30, hard=1.0)
    truth = np.random.default_rng(0).permutation(truth)  # nothing is known of these labels
    found = calibrate_certified(Clips(logits, [str(index) for index in range(30)]), truth, 1 / STEPS, "label_margin")
    calibration = found.calibration
    if "no budget keeps the rule of balanced" in calibration.notes:
        assert calibration.default != "balanced"


def test_evaluation_reports_labels_at_every_point() -> None:
    calibration = certified(600).calibration  # type: ignore[attr-defined]
    logits, truth = draw(800, seed=3)
    names = [f"label {index}" for index in range(LABELS)]
    report = evaluate(logits, truth, names, 1 / STEPS, calibration)
    assert report.label_f1 is not None
    assert report.label_f1 > 0.95
    assert report.mean_average_precision["present"] > 0.95
    assert 0 <= report.calibration_error < 0.1
    for point in report.points:
        assert point.mean_average_precision is not None
        assert point.mean_average_precision > 0.9
    assert min(point.flops_share for point in report.points) < 0.6

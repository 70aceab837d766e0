"""Metrics agree with scikit-learn; leaving agrees with the exit rule."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, confusion_matrix, f1_score, top_k_accuracy_score

from adafocus.bundle.exit_rule import confidence, probabilities
from adafocus.training.evaluate.average_precision import (
    authors_average_precisions,
    average_precisions,
    mean_average_precision,
)
from adafocus.training.evaluate.exit_curve import exit_quota, solve_thresholds
from adafocus.training.evaluate.metrics import (
    accuracy,
    answers,
    calibration_error,
    confusion,
    exit_steps,
    macro_f1,
    negative_log_likelihood,
    one_label,
    top_k_accuracy,
)
from adafocus.training.evaluate.report import evaluate, multi_hot
from tests.fixtures.authors import weights

FIXTURE = Path(__file__).parents[2] / "fixtures" / "training" / "early_exit_expected.npz"

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(pairs)
def test_macro_f1_and_confusion_are_scikit_learns(rows: list[tuple[int, int]]) -> None:
    labels, predicted = np.array(rows, dtype=np.int64).T
    assert macro_f1(predicted, labels, 4) == pytest.approx(f1_score(labels, predicted, average="macro"))
    np.testing.assert_array_equal(confusion(predicted, labels, 4), confusion_matrix(labels, predicted, labels=range(4)))
    assert accuracy(predicted, labels) == pytest.approx(np.trace(confusion(predicted, labels, 4)) / len(rows))


def test_a_clip_leaves_at_its_first_sure_step_and_the_last_always_answers() -> None:
    logits = np.array(
        [[[3, 0], [0, 9], [0, 1]], [[0.1, 0], [0, 9], [0, 1]], [[0.1, 0], [0, 0.1], [0.1, 0]]], dtype=np.float32
    )
    steps = exit_steps(logits, (2.0, 2.0, None), "max_logit")
    np.testing.assert_array_equal(steps, [0, 1, 2])
    np.testing.assert_array_equal(answers(logits, steps), [0, 1, 0])
    np.testing.assert_array_equal(exit_steps(logits, (None, None, None), "max_logit"), [2, 2, 2])


def test_calibration_error_of_a_sure_liar_is_one() -> None:
    logits = np.full((5, 1, 2), [50.0, 0.0], dtype=np.float32)
    assert calibration_error(logits, np.ones(5, dtype=np.int64)) == pytest.approx(1.0)
    assert calibration_error(logits, np.zeros(5, dtype=np.int64)) == pytest.approx(0.0, abs=1e-6)


@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 9))
def test_average_precision_is_scikit_learns_with_ties_and_absent_classes(clips: int, classes: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    targets = random.random((clips, classes)) < 0.3
    scores = random.integers(0, 6, (clips, classes)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a class without positives
        theirs = average_precision_score(targets, scores, average=None)
    np.testing.assert_allclose(average_precisions(scores, targets), theirs, atol=1e-12)
    assert mean_average_precision(scores, targets) == pytest.approx(np.mean(theirs))
    if targets.any():
        present = np.asarray(theirs)[targets.any(axis=0)]
        assert mean_average_precision(scores, targets, "present") == pytest.approx(present.mean())


@given(st.integers(2, 40), st.integers(1, 4), st.integers(0, 9))
def test_top_k_is_scikit_learns(clips: int, k: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.permutation(clips * 5).reshape(clips, 5).astype(np.float32)
    labels = random.integers(0, 5, clips)
    theirs = top_k_accuracy_score(labels, scores, k=k, labels=range(5))
    assert top_k_accuracy(scores, labels, k) == pytest.approx(theirs)


@pytest.mark.parity
@pytest.mark.parametrize(("case", "skipped"), [("multi", None), ("skip7", 7)])
def test_the_authors_average_precision_by_name(case: str, skipped: int | None) -> None:
    logits, padded = weights.make_logits("ee.val", 400, skip_class=skipped)
    targets = multi_hot([row[row >= 0] for row in padded], 20)
    with np.load(FIXTURE) as expected:
        shares = probabilities(logits[:, -1])
        found = authors_average_precisions(shares, targets)
        np.testing.assert_allclose(found * 100, expected[f"cal_map_{case}/ap"], rtol=1e-5, atol=1e-4)
        mean = mean_average_precision(shares, targets, "authors")
        assert mean * 100 == pytest.approx(float(expected[f"cal_map_{case}/map"]), rel=1e-5)
    if skipped is not None:
        assert mean_average_precision(shares, targets, "present") == pytest.approx(0.9196, abs=1e-4)
        assert mean_average_precision(shares, targets) == pytest.approx(0.9196 * 19 / 20, abs=1e-4)


@pytest.mark.parity
def test_map_along_the_budgets_equals_the_authors() -> None:
    training = weights.make_logits("ee.train", 500)[0]
    logits, padded = weights.make_logits("ee.val", 400)
    targets = multi_hot([row[row >= 0] for row in padded], 20)
    sure = confidence(training, "max_logit")
    with np.load(FIXTURE) as expected:
        wanted = expected["actnet_conf_mbv2_p128/metric"]
    for row in (0, 5, 15, 34):
        thresholds = solve_thresholds(sure, exit_quota((row + 5) / 10, 16))
        left = logits[np.arange(400), exit_steps(logits, thresholds, "max_logit")]
        found = mean_average_precision(probabilities(left), targets, "authors")
        assert found * 100 == pytest.approx(float(wanted[row]), rel=1e-4)


def test_a_clip_with_several_labels_is_right_with_any() -> None:
    targets = multi_hot([(0, 2), (1,), (2,)], 3)
    predicted = np.array([2, 0, 2])
    assert accuracy(predicted, targets) == pytest.approx(2 / 3)
    np.testing.assert_array_equal(one_label(predicted, targets), [2, 1, 2])
    flat = np.zeros((3, 1, 3), dtype=np.float32)
    assert negative_log_likelihood(flat, targets) == pytest.approx(np.log(3))
    logits = np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6]], dtype=np.float32))[:, None]
    report = evaluate(logits, targets, ("a", "b", "c"), gflops_per_step=1.0)
    assert report.multi_label
    assert report.accuracy == report.step_accuracy[-1] == pytest.approx(2 / 3)
    assert len(report.curve_map) == len(report.curve)
    assert report.curve_map[-1] == pytest.approx(report.mean_average_precision["sklearn"])

"""Metrics agree with scikit-learn; leaving agrees with the exit rule."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix, f1_score

from training.metrics import accuracy, answers, calibration_error, confusion, exit_steps, macro_f1

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

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from adafocus.bundle.exit_rule import should_exit
from adafocus.bundle.guarantee import Guarantee
from adafocus.bundle.manifest import Manifest
from adafocus.export.accuracy_tradeoff import Bound, ClipLogits, compare, exit_steps, follow
from tests.bundle.factory import make_manifest

CONFIDENCES = arrays(np.float32, (12, 4), elements=st.floats(0, 1, width=32))
ROW = st.tuples(*[st.floats(0, 1, width=32) | st.just(np.inf) for _ in range(3)], st.just(-np.inf))


@given(sure=CONFIDENCES, row=ROW)
def test_equal_confidences_keep_their_thresholds(sure: np.ndarray, row: tuple[float, ...]) -> None:
    assert follow(sure, sure, row) == row


@settings(max_examples=200)
@given(wanted=CONFIDENCES, found=CONFIDENCES, row=ROW)
def test_as_many_leave_at_each_step(wanted: np.ndarray, found: np.ndarray, row: tuple[float, ...]) -> None:
    found += np.linspace(0, 1e-3, len(found), dtype=np.float32)[:, None]  # without ties the count can be met
    if any(len(set(found[:, step].tolist())) < len(found) for step in range(4)):
        return
    solved = follow(wanted, found, row)
    before = np.bincount(exit_steps(wanted, row), minlength=4)
    after = np.bincount(exit_steps(found, solved), minlength=4)
    assert after.tolist() == before.tolist()
    assert [np.isinf(value) for value in solved] == [np.isinf(value) for value in row]


def test_a_threshold_moves_no_further_than_it_must() -> None:
    wanted = np.float32([[0.9], [0.8], [0.3]]).repeat(2, axis=1)
    found = np.float32([[0.9], [0.6], [0.5]]).repeat(2, axis=1)
    assert follow(wanted, found, (0.7, -np.inf))[0] == np.float32(0.6)
    assert follow(wanted, found, (0.55, -np.inf))[0] == 0.55
    assert follow(wanted, found, (0.4, -np.inf))[0] == np.nextafter(np.float32(0.5), np.float32(1))


def judged(manifest: Manifest, clips: int = 100) -> ClipLogits:
    """Logits that are surer with every step, and right for all but every tenth clip."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, clips)
    logits = random.normal(0, 0.1, (clips, manifest.steps, 3)).astype(np.float32)
    seen = np.where(np.arange(clips) % 10 == 0, (labels + 1) % 3, labels)
    logits[np.arange(clips)[:, None], np.arange(manifest.steps)[None, :], seen[:, None]] += np.linspace(1, 4, 4)
    return ClipLogits(logits, labels, "toy clips")


def test_what_a_precision_trades() -> None:
    manifest = make_manifest()
    fp32 = judged(manifest)
    same = compare(manifest, "int8", fp32, fp32.logits)
    assert (same.agreement, same.accuracy, same.accuracy_fp32, same.clips) == (1.0, 0.9, 0.9, 100)
    assert same.exit_step_shift == {"full": 0.0, "balanced": 0.0}
    assert [point.thresholds for point in same.operating_points] == [
        point.thresholds for point in manifest.operating_points
    ]
    assert all(point.expected_accuracy is None for point in same.operating_points)
    assert Bound().holds(same)
    worse = fp32.logits.copy()
    worse[1, -1] = worse[1, -1][::-1] * np.float32([1, 0, 1])
    worse[:2, -1] = np.roll(fp32.logits[:2, -1], 1, axis=-1)
    found = compare(manifest, "int8", fp32, worse, kept=["focus.stem"])
    assert found.agreement == 0.98
    assert found.kept == ("focus.stem",)
    assert not Bound().holds(found)
    assert Bound(agreement=0.98, accuracy_lost=0.02).holds(found)


def test_a_guarantee_is_not_inherited() -> None:
    """Another precision is another model: what was certified for fp32 was not tested with it."""
    manifest = make_manifest()
    full, balanced = manifest.operating_points
    certified = balanced.model_copy(update={"guarantee": Guarantee("answer_changed", 0.05, 0.95, 700, 21)})
    manifest = make_manifest(operating_points=(full, certified))
    fp32 = judged(manifest)
    assert all(point.guarantee is None for point in compare(manifest, "int8", fp32, fp32.logits).operating_points)


def test_confidences_of_all_steps_use_their_temperatures() -> None:
    manifest = make_manifest(temperatures=(0.5, 1.0, 2.0, 4.0))
    fp32 = judged(manifest)
    hotter = compare(manifest, "int8", fp32, fp32.logits * np.float32(2))
    assert hotter.exit_step_shift["balanced"] == 0.0


def test_thresholds_are_solved_again() -> None:
    manifest = make_manifest()
    fp32 = judged(manifest)
    shy = compare(manifest, "int8", fp32, fp32.logits * np.float32(0.8))
    assert shy.agreement == 1.0
    assert shy.exit_step_shift["balanced"] == 0.0
    for solved, point in zip(shy.operating_points, manifest.operating_points, strict=True):
        for less, more in zip(solved.thresholds, point.thresholds, strict=True):
            assert (less is None) == (more is None)
            assert less is None or more is None or less <= more
    served = manifest.model_copy(update={"reduced": (shy,)})
    assert served.served_in("int8").operating_points == shy.operating_points
    assert served.served_in("fp32") is served


@pytest.mark.parametrize("threshold", [0.5, np.inf])
def test_the_last_step_always_answers(threshold: float) -> None:
    sure = np.zeros((3, 2), np.float32)
    assert exit_steps(sure, (threshold, -np.inf)).tolist() == [1, 1, 1]
    assert should_exit(sure[:, 1], -np.inf).all()

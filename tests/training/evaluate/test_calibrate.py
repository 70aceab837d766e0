"""The solver equals the authors', and the operating points keep their promises."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.bundle.exit_rule import ExitCriterion, confidence, probabilities
from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.average_precision import mean_average_precision
from adafocus.training.evaluate.calibrate import POINT_RULES, PointRule, best_within, calibrate, choose, fit_temperature
from adafocus.training.evaluate.exit_curve import exit_curve, exit_quota, measure, solve_thresholds
from adafocus.training.evaluate.metrics import Logits, answers, exit_steps
from adafocus.training.evaluate.operating_points import load_calibration
from adafocus.training.evaluate.report import multi_hot
from tests import tolerances
from tests.fixtures.authors import weights

FIXTURE = Path(__file__).parents[2] / "fixtures" / "training" / "early_exit_expected.npz"
RATIOS = [budget / 10 for budget in range(5, 40)]
NEVER = 1e8


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(FIXTURE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def validation() -> tuple[Logits, np.ndarray]:
    logits, targets = weights.make_logits("ee.val", 400)
    return logits, targets[:, 0]


@dataclass(frozen=True)
class Sweep:
    """One of the authors' sweeps: what it compares, how closely it must be met, and how its logits were made."""

    name: str
    criterion: ExitCriterion
    tolerance: float = 0.0
    multi: bool = True
    absent: int | None = None

    def training(self) -> Logits:
        """The logits that thresholds were solved on: every class occurs."""
        return weights.make_logits("ee.train", 500, multi=self.multi)[0]

    def validation(self) -> tuple[Logits, np.ndarray]:
        """The logits that thresholds were applied to, and every class of each clip: bool [400, 20]."""
        logits, padded = weights.make_logits("ee.val", 400, multi=self.multi, skip_class=self.absent)
        return logits, multi_hot([row[row >= 0] for row in padded], logits.shape[2])


@pytest.fixture(
    scope="module",
    params=[
        Sweep("actnet_conf_mbv2_p128", "max_logit"),
        Sweep("actnet_entropy_mbv2_p128", "neg_entropy", tolerance=tolerances.SOLVER_ENTROPY),
        Sweep("minik_conf_res50_p128", "max_logit", multi=False),
        Sweep("actnet_conf_mbv2_p96_skip7", "max_logit", absent=7),
    ],
    ids=lambda sweep: sweep.name,
)
def sweep(request: pytest.FixtureRequest) -> Sweep:
    found: Sweep = request.param
    return found


@pytest.mark.parity
def test_solver_equals_the_authors(sweep: Sweep, expected: dict[str, np.ndarray]) -> None:
    sure = confidence(sweep.training(), sweep.criterion)
    for row, ratio in enumerate(RATIOS):
        quota = exit_quota(ratio, 16)
        wanted = np.floor(np.float32(500) * quota).astype(int)
        np.testing.assert_array_equal(wanted, expected[f"{sweep.name}/want"][row])
        found = [NEVER if value is None else value for value in solve_thresholds(sure, quota)]
        np.testing.assert_allclose(found[:-1], expected[f"{sweep.name}/T"][row][:-1], rtol=0, atol=sweep.tolerance)


@pytest.mark.parity
def test_exits_answers_costs_and_worth_equal_the_authors(sweep: Sweep, expected: dict[str, np.ndarray]) -> None:
    logits, truth = sweep.validation()
    sure = confidence(sweep.training(), sweep.criterion)
    per_step = float(expected[f"{sweep.name}/flops_exits"][0])
    for row, ratio in enumerate(RATIOS):
        thresholds = solve_thresholds(sure, exit_quota(ratio, 16))
        steps = exit_steps(logits, thresholds, sweep.criterion)
        np.testing.assert_array_equal(np.bincount(steps, minlength=16), expected[f"{sweep.name}/exits"][row])
        np.testing.assert_array_equal(answers(logits, steps), expected[f"{sweep.name}/pred"][row])
        found = measure(logits, truth, thresholds, sweep.criterion, 1.0, ratio)
        assert found.flops_share * 16 * per_step == pytest.approx(expected[f"{sweep.name}/flops"][row], rel=5e-6)
        worth = found.accuracy
        if sweep.multi:
            left = probabilities(logits[np.arange(len(logits)), steps])
            worth = mean_average_precision(left, truth, "authors")
        assert 100 * worth == pytest.approx(expected[f"{sweep.name}/metric"][row], rel=1e-6)


def test_a_nan_confidence_is_refused() -> None:
    with pytest.raises(CalibrationError, match="not a number"):
        solve_thresholds(np.full((3, 2), np.nan, dtype=np.float32), exit_quota(1.0, 2))


@pytest.mark.parametrize("shape", [(0, 4), (3, 5)])
def test_shapes_are_checked(shape: tuple[int, int]) -> None:
    with pytest.raises(CalibrationError, match="4 steps"):
        solve_thresholds(np.zeros(shape, dtype=np.float32), exit_quota(1.0, 4))


@given(st.floats(0.05, 8.0), st.integers(1, 32))
def test_quota_is_a_distribution(ratio: float, steps: int) -> None:
    quota = exit_quota(ratio, steps)
    assert quota.dtype == np.float32
    assert math.isclose(float(quota.sum()), 1.0, rel_tol=1e-5)


@given(st.integers(1, 60), st.integers(1, 8), st.floats(0.3, 4.0), st.integers(0, 9))
def test_no_step_lets_out_fewer_than_its_share(clips: int, steps: int, ratio: float, seed: int) -> None:
    sure = np.random.default_rng(seed).random((clips, steps), dtype=np.float32)
    quota = exit_quota(ratio, steps)
    remaining = np.ones(clips, dtype=bool)
    for step, threshold in enumerate(solve_thresholds(sure, quota)):
        if threshold is not None:
            leaving = remaining & (sure[:, step] >= np.float32(threshold))
            assert leaving.sum() == min(int(np.float32(clips) * quota[step]), remaining.sum())
            remaining &= ~leaving


def test_temperature_undoes_a_known_scale() -> None:
    random = np.random.default_rng(3)
    logits = random.normal(size=(4000, 1, 3)).astype(np.float32)
    shares = np.exp(logits[:, 0]) / np.exp(logits[:, 0]).sum(axis=1, keepdims=True)
    labels = np.array([random.choice(3, p=share / share.sum()) for share in shares])
    assert fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.1)


def test_points_keep_their_rules(validation: tuple[Logits, np.ndarray]) -> None:
    logits, labels = validation
    found = calibrate(logits, labels, gflops_per_step=0.5)
    points = {point.name: point for point in found.points}
    assert list(points) == ["full", "accurate", "balanced", "fast"]
    assert points["full"].thresholds == (None,) * 16
    assert points["full"].expected_gflops == pytest.approx(8.0)
    for rule in POINT_RULES:
        assert points[rule.name].expected_gflops <= rule.flops_share * 8.0
        assert sum(points[rule.name].exit_shares) == pytest.approx(1.0)
    assert "no budget keeps the rule of balanced" in found.notes
    assert found.default == "accurate"


def test_a_rule_takes_the_cheapest_that_is_good_enough(validation: tuple[Logits, np.ndarray]) -> None:
    logits, labels = validation
    curve = exit_curve(logits, labels, "max_softmax", 1.0)
    rule = PointRule("any", 1.0, accuracy_lost=0.1, answers_changed=1.0)
    best = choose(curve, rule, full_score=0.6)
    assert all(point.accuracy < 0.5 for point in curve if point.flops_share < best.flops_share - 1e-12)
    same = choose(curve, POINT_RULES[0], full_score=0.5)
    assert same.answers_changed == 0 or all(point.answers_changed > 0 for point in curve)


def test_headroom_takes_a_dearer_budget_that_passes_too(validation: tuple[Logits, np.ndarray]) -> None:
    logits, labels = validation
    curve = exit_curve(logits, labels, "max_softmax", 1.0)
    plain = choose(curve, PointRule("any", 1.0, accuracy_lost=0.1, answers_changed=1.0), full_score=0.6)
    roomy = choose(curve, PointRule("any", 1.0, 0.1, 1.0, headroom=1.2), full_score=0.6)
    assert roomy.flops_share >= 1.2 * plain.flops_share
    assert roomy.accuracy >= 0.5
    nothing_dearer = PointRule("any", plain.flops_share, 0.1, 1.0, headroom=1.2)
    assert choose(curve, nothing_dearer, full_score=0.6) == plain


def test_without_an_affordable_budget_the_cheapest_is_taken() -> None:
    sure = np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float32)
    curve = exit_curve(sure, np.zeros(20, dtype=np.int64), "max_softmax", 1.0)
    assert choose(curve, POINT_RULES[-1], full_score=1.0) == curve[0]


def test_the_file_comes_back(tmp_path: Path, validation: tuple[Logits, np.ndarray]) -> None:
    found = calibrate(*validation, gflops_per_step=0.5, notes="synthetic")
    found.save(tmp_path / "deep" / "calibration.json")
    assert load_calibration(tmp_path / "deep" / "calibration.json") == found


def test_budgets_add_points_within_them(validation: tuple[Logits, np.ndarray]) -> None:
    logits, labels = validation
    found = {point.name: point for point in calibrate(logits, labels, 0.5, budgets=(0.3, 0.125)).points}
    assert list(found)[-2:] == ["at-30", "at-12.5"]
    assert found["at-30"].expected_gflops <= 0.3 * 8
    assert found["at-30"].expected_accuracy >= found["at-12.5"].expected_accuracy
    with pytest.raises(CalibrationError, match="same name"):
        calibrate(logits, labels, 0.5, budgets=(0.3, 0.3))


def test_a_model_of_one_step_has_nowhere_to_leave(validation: tuple[Logits, np.ndarray]) -> None:
    logits, labels = validation
    found = calibrate(logits[:, :1], labels, 18.5)
    assert [point.name for point in found.points] == ["full"]
    assert found.default == "full"


@pytest.mark.parametrize("content", ["", "[]", '{"temperature": 1}'])
def test_another_file_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "c.json").write_text(content)
    with pytest.raises(CalibrationError, match=r"c\.json is not a calibration file"):
        load_calibration(tmp_path / "c.json")


def test_never_leaving_is_a_choice_and_a_rule_that_nothing_keeps_is_named() -> None:
    """Steps that are wrong until the last one, and sure of it."""
    labels = np.arange(60) % 3
    logits = np.zeros((60, 4, 3), np.float32)
    logits[np.arange(60), :3, (labels + 1) % 3] = 9
    logits[np.arange(60), 3, labels] = 5
    found = calibrate(logits, labels, 0.5, notes="made", temperature=1.0)
    points = {point.name: point for point in found.points}
    assert points["accurate"].expected_accuracy == 1.0
    assert found.notes == "made; no budget keeps the rule of balanced, fast: the best within its price was taken"


def test_the_default_is_never_a_point_whose_rule_no_budget_keeps() -> None:
    labels = np.arange(60) % 3
    logits = np.zeros((60, 4, 3), np.float32)
    logits[np.arange(60), :3, (labels + 1) % 3] = 9
    logits[np.arange(60), 3, labels] = 5
    assert calibrate(logits, labels, 0.5).default == "accurate"


def several_labels() -> tuple[Logits, np.ndarray]:
    """Clips with two classes of four. The first step is right about the first of them and leaves out the other."""
    random = np.random.default_rng(0)
    truth = np.zeros((80, 4), dtype=np.bool_)
    for row in truth:
        row[random.choice(4, 2, replace=False)] = True
    logits = random.normal(0, 0.1, (80, 4, 4)).astype(np.float32)
    for step, others in enumerate((-4, -4, 3, 4)):
        for clip, row in enumerate(truth):
            first, second = np.flatnonzero(row)
            logits[clip, step, first] += 8
            logits[clip, step, second] += others
    return logits, truth


def test_clips_with_several_labels_choose_points_by_average_precision() -> None:
    """Top-1 is perfect from the first step on, so that accuracy would take the cheapest budget."""
    logits, truth = several_labels()
    curve = exit_curve(logits, truth, "max_softmax", 1.0)
    assert {point.accuracy for point in curve} == {1.0}
    full = measure(logits, truth, (None,) * 4, "max_softmax", 1.0, 0.0)
    assert full.mean_average_precision is not None
    rule = PointRule("any", 1.0, accuracy_lost=0.005, answers_changed=1.0)
    chosen = choose((*curve, full), rule, full.score)
    assert chosen.score >= full.mean_average_precision - 0.005
    assert chosen.flops_share > min(point.flops_share for point in curve)
    assert best_within(curve, 1.0).score == max(point.score for point in curve)
    notes = calibrate(logits, truth, 0.5, notes="made").notes
    assert f"chosen by mean average precision: full {full.mean_average_precision:.4f}" in notes


def test_average_precision_along_the_curve_is_of_what_clips_are_given_where_they_leave() -> None:
    logits, truth = several_labels()
    for point in exit_curve(logits, truth, "max_softmax", 1.0)[::15]:
        left = logits[np.arange(80), exit_steps(logits, point.thresholds)]
        assert point.mean_average_precision == mean_average_precision(probabilities(left), truth, "present")
    one = exit_curve(logits, truth.argmax(axis=1), "max_softmax", 1.0)[0]
    assert one.mean_average_precision is None
    assert one.score == one.accuracy

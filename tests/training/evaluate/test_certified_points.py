"""Operating points carry a guarantee where the clips allow one, and the default is never one that broke its rule."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from adafocus.training.errors import CalibrationError
from adafocus.training.evaluate.certified_points import (
    CertifiedCalibration,
    Clips,
    Promises,
    calibrate_certified,
    fit_temperatures,
    point_name,
)
from adafocus.training.evaluate.metrics import Logits
from adafocus.training.evaluate.operating_points import Point, load_calibration
from tests.training.evaluate.populations import POPULATIONS, Population

EASY = POPULATIONS["easy"]


def clips(logits: Logits, first: str = "clip") -> Clips:
    return Clips(logits, [f"{first} {index}" for index in range(len(logits))])


def solve(
    count: int, population: Population = EASY, *asked: float, seed: int = 0, unlabelled: Clips | None = None
) -> CertifiedCalibration:
    logits, labels = population.draw(count, np.random.default_rng(seed))
    return calibrate_certified(
        clips(logits), labels, 0.5, promises=Promises(asked), unlabelled=unlabelled, notes="made"
    )


def points(found: CertifiedCalibration) -> dict[str, Point]:
    return {point.name: point for point in found.calibration.points}


def test_standard_points_are_certified_where_there_are_clips() -> None:
    found = solve(1000)
    guarantees = {name: point.guarantee for name, point in points(found).items()}
    assert list(guarantees) == ["full", "accurate", "balanced", "fast"]
    assert guarantees["full"] is None
    epsilons = [guarantee.epsilon for guarantee in guarantees.values() if guarantee]
    assert epsilons == [0.01, 0.05, 0.10]
    assert {guarantee.clips for guarantee in guarantees.values() if guarantee} == {700}
    costs = [point.expected_gflops for point in points(found).values()]
    assert costs == sorted(costs, reverse=True)
    assert found.calibration.default == "balanced"
    assert len(found.calibration.temperatures or ()) == 8
    assert "accurate, balanced, fast certified at 95% on 700 independent clips" in found.calibration.notes


def test_a_stricter_point_that_cannot_be_tested_is_not_cheaper_than_a_certified_one() -> None:
    found = points(solve(150))
    assert found["accurate"].guarantee is None
    assert found["balanced"].guarantee is not None
    assert found["accurate"].expected_gflops >= found["balanced"].expected_gflops


def test_few_clips_promise_nothing_and_name_what_they_could() -> None:
    found = solve(30, EASY, 0.02)
    assert all(point.guarantee is None for point in found.calibration.points)
    assert "certified-2" not in points(found)
    assert found.calibration.default == "full"
    assert found.warnings == (
        "nothing is promised at 0.02: it takes 149 independent clips to test on and there are 21, which can certify "
        "0.133 at best; the default point is full",
    )


def test_what_is_asked_for_becomes_a_point_and_the_default() -> None:
    found = solve(600, EASY, 0.02, 0.005)
    guarantee = points(found)["certified-2"].guarantee
    assert guarantee is not None
    assert guarantee.epsilon == 0.02
    assert "certified-0.5" not in points(found)
    assert found.calibration.default == "certified-2"
    assert [warning[:30] for warning in found.warnings] == ["nothing is promised at 0.005: "]


def test_where_no_early_exit_passes_the_point_never_exits() -> None:
    """Every video changes its answer at the last step."""
    labels = np.arange(400) % 3
    logits = np.zeros((400, 4, 3), np.float32)
    logits[np.arange(400), :3, (labels + 1) % 3] += 9
    logits[np.arange(400), 3, labels] += 5
    found = calibrate_certified(clips(logits), labels, 0.5, promises=Promises((0.05,)))
    for name in ("balanced", "certified-5"):
        assert points(found)[name].thresholds == (None,) * 4
        assert points(found)[name].expected_accuracy == 1.0
    assert found.warnings == ("no early exit was certified at 0.05 on 280 clips, so certified-5 has none",)


def test_unlabelled_clips_test_alone_and_give_the_costs() -> None:
    hard = POPULATIONS["late"]
    production = clips(hard.draw(500, np.random.default_rng(9))[0], "production")
    found, plain = points(solve(300, EASY, unlabelled=production)), points(solve(300, EASY))
    guarantee = found["balanced"].guarantee
    assert guarantee is not None
    assert guarantee.clips == 500
    assert found["balanced"].expected_gflops > plain["balanced"].expected_gflops
    assert sum(found["balanced"].exit_shares) == pytest.approx(1.0)


def test_unlabelled_clips_that_fitted_do_not_test() -> None:
    logits, labels = EASY.draw(200, np.random.default_rng(0))
    found = calibrate_certified(clips(logits), labels, 0.5, unlabelled=clips(logits))
    assert all(point.guarantee is None for point in found.calibration.points)
    with pytest.raises(CalibrationError, match="needs labels"):
        calibrate_certified(
            clips(logits), labels, 0.5, promises=Promises(risk="right_answer_lost"), unlabelled=clips(logits)
        )


def test_clips_of_one_recording_count_once() -> None:
    logits, labels = EASY.draw(900, np.random.default_rng(0))
    grouped = Clips(logits, [f"recording {index // 9}" for index in range(900)])
    found = calibrate_certified(grouped, labels, 0.5)
    guarantee = points(found)["fast"].guarantee
    assert guarantee is not None
    assert guarantee.clips == 70
    assert points(found)["accurate"].guarantee is None


def test_a_lost_right_answer_is_rarer_than_a_changed_one() -> None:
    logits, labels = POPULATIONS["late"].draw(800, np.random.default_rng(0))
    labels = np.where(np.random.default_rng(1).random(800) < 0.3, (labels + 1) % 6, labels)  # full errs on these
    cost = {}
    for promises in (Promises(risk="answer_changed"), Promises(risk="right_answer_lost")):
        found = points(calibrate_certified(clips(logits), labels, 0.5, promises=promises))
        assert found["balanced"].guarantee is not None
        assert found["balanced"].guarantee.risk == promises.risk
        cost[promises.risk] = found["balanced"].expected_gflops
    assert cost["right_answer_lost"] <= cost["answer_changed"]


def test_several_labels_a_clip_are_certified_too() -> None:
    logits, labels = EASY.draw(400, np.random.default_rng(0))
    truth: npt.NDArray[np.bool_] = np.eye(6, dtype=np.bool_)[labels]
    found = calibrate_certified(clips(logits), truth, 0.5, promises=Promises(risk="right_answer_lost"))
    assert points(found)["balanced"].guarantee is not None


def test_a_model_of_one_step_has_nothing_to_certify() -> None:
    logits, labels = EASY.draw(80, np.random.default_rng(0))
    found = calibrate_certified(clips(logits[:, :1]), labels, 0.5, promises=Promises((0.05,)))
    assert list(points(found)) == ["full"]
    assert found.warnings == ("the model has one step, so it has only the point full and nothing to certify",)


def test_each_step_gets_its_temperature() -> None:
    logits, labels = EASY.draw(400, np.random.default_rng(0))
    noisy = logits[:, :2] + np.random.default_rng(1).normal(0, 2.0, (400, 2, 6)).astype(np.float32)
    noisy[:, 0] *= 4.0
    first, second = fit_temperatures(noisy, labels, 1.0)
    assert first == pytest.approx(4 * second, rel=0.5)
    assert fit_temperatures(noisy[:49], labels[:49], 1.3) == (1.3, 1.3)


def test_the_file_comes_back_and_older_files_are_read(tmp_path: Path) -> None:
    found = replace(solve(600, EASY, 0.05).calibration, checkpoint="ab" * 32)
    path = tmp_path / "calibration.json"
    found.save(path)
    assert load_calibration(path) == found
    older = json.loads(path.read_text())
    del older["temperatures"], older["checkpoint"]
    for point in older["points"]:
        del point["guarantee"]
    path.write_text(json.dumps(older))
    read = load_calibration(path)
    assert read.temperatures is None
    assert read.exit_rule.temperatures == (found.temperature,) * 8
    assert all(point.guarantee is None for point in read.points)


@pytest.mark.parametrize(("epsilon", "name"), [(0.02, "certified-2"), (0.005, "certified-0.5"), (0.07, "certified-7")])
def test_points_are_named_after_their_epsilon(epsilon: float, name: str) -> None:
    assert point_name(epsilon) == name

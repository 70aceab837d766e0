"""The study of ``sky``: sessions stay together, and no clip chooses the rate that it is judged with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adafocus.training.data.clips import Clip, ClipSet
from adafocus.training.recipe_files import load_recipe
from benchmarks.evidence import sky_claim
from benchmarks.evidence.sky_claim import (
    after_each_step,
    by_class,
    by_fold,
    curves,
    gflops_per_step,
    read_arm,
    share_held,
    table,
)
from benchmarks.evidence.sky_rates import rate_rows
from benchmarks.evidence.sky_sessions import sessions
from benchmarks.evidence.sky_study import FOLDS, Study

CLASSES = ("airplane", "bird", "drone", "helicopter")


def item(group: str, sensor: str, number: int, label: str = "drone") -> dict[str, str]:
    return {"group": group, "sensor": sensor, "file": f"{label}/X_{number:03}.mp4", "label": label}


def test_groups_of_both_sensors_with_three_numbers_in_common_are_one_session() -> None:
    visible = [item("V1", "visible", number) for number in (1, 2, 3)]
    infrared = [item("I1", "infrared", number) for number in (2, 3, 1)]
    other = [item("I2", "infrared", number) for number in (1, 2, 9)]
    named = sessions([*visible, *infrared, *other])
    assert len(set(named[:6])) == 1
    assert named[6] not in named[:6]


def test_the_same_number_of_another_class_is_no_reason() -> None:
    rows = [item("V1", "visible", number) for number in (1, 2, 3)]
    rows += [item("I1", "infrared", number, "bird") for number in (1, 2, 3)]
    assert len(set(sessions(rows))) == 2


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Forty clips in twenty sessions and five folds, a quarter of each class."""
    clips = tuple(Clip(Path(f"{n}.mp4"), n % 4, f"{n}", group=f"g{n // 2}") for n in range(40))
    items = [{"sensor": "visible" if n % 2 else "infrared", "distance": ("close", "distant")[n % 2]} for n in range(40)]
    units = [f"g{n // 2}" for n in range(40)]
    folds = np.array([n // 2 % FOLDS for n in range(40)])
    return Study(ClipSet(CLASSES, clips, {}), items, units, folds, tmp_path, load_recipe("sky"))


def answers(study: Study, fold: int, right: float) -> dict[str, np.ndarray]:  # type: ignore[type-arg]
    """Logits of a fold of which that share is right, by class and position."""
    own = study.judged(fold)
    logits = np.zeros((len(own), 8, 4), np.float32)
    for row, number in enumerate(own):
        good = row < right * len(own)
        logits[row, :, (study.labels[number] + (not good)) % 4] = 1.0
    return {"clips": own, "logits": logits, "box": logits}


def test_a_fold_has_the_rate_that_is_best_in_the_others(study: Study, tmp_path: Path) -> None:
    for fold in range(FOLDS):
        np.savez(tmp_path / f"method-{fold}-0-0.001.npz", **answers(study, fold, 0.0 if fold == 2 else 0.5))
        np.savez(tmp_path / f"method-{fold}-0-0.0004.npz", **answers(study, fold, 1.0 if fold == 2 else 0.25))
    arm = read_arm(study, tmp_path, "method")
    assert arm is not None
    assert arm.rates[2] == 0.001  # although the other one is better there
    assert arm.judged.all()


def test_rates_are_compared_where_every_fold_has_them(study: Study, tmp_path: Path) -> None:
    for fold in range(FOLDS):
        np.savez(tmp_path / f"middle-{fold}-0-0.001.npz", **answers(study, fold, 0.5))
        np.savez(tmp_path / f"middle-{fold}-0-0.0005.npz", **answers(study, fold, 0.25))
        np.savez(tmp_path / f"glance256-{fold}-0-0.001.npz", **answers(study, fold, 0.5))  # at one rate only
    np.savez(tmp_path / "middle-0-0-0.002.npz", **answers(study, 0, 1.0))
    rows = {row["rate"]: row for row in rate_rows(study, tmp_path)}
    assert {row["arm"] for row in rows.values()} == {"middle"}
    assert [(rate, row["accuracy"]) for rate, row in rows.items()] == [("0.0005", 0.25), ("0.001", 0.5), ("rule", 0.5)]
    assert rows["rule"]["by_fold"] == " ".join(["0.001"] * FOLDS)


def test_an_arm_that_was_not_run_is_left_out(study: Study, tmp_path: Path) -> None:
    assert read_arm(study, tmp_path, "middle") is None


def test_a_row_says_what_the_method_gains_on_the_same_clips(study: Study, tmp_path: Path) -> None:
    for fold in range(FOLDS):
        np.savez(tmp_path / f"method-{fold}-0-0.001.npz", **answers(study, fold, 0.75))
        if fold < 2:
            np.savez(tmp_path / f"middle-{fold}-0-0.001.npz", **answers(study, fold, 0.25))
    found = {name: read_arm(study, tmp_path, name) for name in ("method", "middle")}
    arms = {name: arm for name, arm in found.items() if arm is not None}
    rows = {(row["subset"], row["arm"]): row for row in table(study, arms, np.ones((40, 8)))}
    method, middle = rows["all", "method"], rows["all", "middle"]
    assert (method["clips"], method["accuracy"]) == (40, 0.75)
    assert (middle["clips"], middle["accuracy"], middle["method_gains"]) == (16, 0.25, 0.5)
    assert len(by_fold(study, arms)) == FOLDS + 2
    assert {row["arm"] for row in curves(study, arms)} == {"method"}  # the other one has not answered for all clips


def test_classes_say_what_is_right_of_each_and_how_often_it_is_said(study: Study, tmp_path: Path) -> None:
    for fold in range(FOLDS):
        drones = np.zeros((8, 8, 4), np.float32)
        drones[:, :, 2] = 1.0
        np.savez(tmp_path / f"middle-{fold}-0-0.001.npz", clips=study.judged(fold), logits=drones)
    arm = read_arm(study, tmp_path, "middle")
    assert arm is not None
    rows = {row["class"]: row for row in by_class(study, {"middle": arm})}
    assert [rows[label]["accuracy"] for label in CLASSES] == [0.0, 0.0, 1.0, 0.0]
    assert (rows["drone"]["said"], rows["bird"]["said"], rows["bird"]["clips"]) == (1.0, 0.0, 10)


def test_every_seed_counts_alike(study: Study, tmp_path: Path) -> None:
    for fold in range(FOLDS):
        for seed, right in enumerate((0.25, 0.75)):
            np.savez(tmp_path / f"method-{fold}-{seed}-0.001.npz", **answers(study, fold, right))
            np.savez(tmp_path / f"patches-{fold}-{seed}.npz", clips=study.judged(fold), holds=np.full((8, 8), seed))
    arm = read_arm(study, tmp_path, "method")
    assert arm is not None
    holds = share_held(study, tmp_path, [0, 1])
    row = table(study, {"method": arm}, holds)[0]
    assert (row["accuracy"], row["seeds"], row["patch_holds_thing"]) == (0.5, 2, 0.5)
    assert curves(study, {"method": arm})[0]["accuracy"] == 0.5


def test_an_arm_of_fewer_frames_takes_the_answers_of_the_longer_one(study: Study, tmp_path: Path) -> None:
    for fold in range(FOLDS):
        np.savez(tmp_path / f"full512-{fold}-0-0.001.npz", **answers(study, fold, 0.5))
    arms = {name: read_arm(study, tmp_path, name) for name in ("full512", "full512at2")}
    longer, shorter = arms["full512"], arms["full512at2"]
    assert longer is not None
    assert shorter is not None
    assert (longer.frames, shorter.frames) == (8, 2)
    assert np.array_equal(shorter.steps[0], longer.steps[0][:, :2])


def test_the_plain_recipe_differs_from_the_shipped_one_in_what_the_focus_learns_from() -> None:
    plain = load_recipe(str(Path(sky_claim.__file__).with_name("sky_plain.toml")))
    shipped = load_recipe("sky")
    assert (plain.stages.grey, plain.stages.empty, plain.stages.recognise_steps) == (False, 0.0, 240)
    stages = replace(plain.stages, grey=True, empty=0.25, recognise_steps=320)
    assert replace(plain, stages=stages, name=shipped.name) == shipped


def test_steps_hold_the_mean_of_what_was_seen_so_far() -> None:
    logits = np.arange(8, dtype=np.float32).reshape(1, 8, 1)
    steps = after_each_step(logits)[0, :, 0]
    assert steps[0] == 3  # the first frame visited
    assert steps[-1] == 3.5  # of 0 to 7


def test_the_middle_costs_less_and_the_larger_glance_more_than_the_method(study: Study) -> None:
    costs = gflops_per_step(study)
    assert costs["recipe"] == costs["recipe box"] == costs["method"]
    assert costs["middle"] < costs["glance128"] < costs["method"] < costs["glance256"] < 1.2 * costs["method"]

"""Ways to join the frames of a clip are compared on the same logits, by clips that were not learned from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adafocus.training.data.clips import Clip, ClipSet
from adafocus.training.recipe_files import load_recipe
from benchmarks.evidence.sky_pooling import largest, mean, mean_probability, middle_of_extremes, rows_of
from benchmarks.evidence.sky_study import Study


def test_one_frame_that_is_sure_of_a_wrong_class_decides_extremes_but_not_the_mean() -> None:
    logits = np.array([[[1.0, 0.0]] * 7 + [[0.0, 6.0]]], np.float32)
    assert mean(logits).tolist() == [[0.875, 0.75]]
    assert middle_of_extremes(logits).tolist() == [[0.5, 3.0]]
    assert largest(logits).tolist() == [[1.0, 6.0]]
    assert mean_probability(logits).argmax() == 0


@pytest.fixture
def study(tmp_path: Path) -> Study:
    clips = tuple(Clip(Path(f"{n}.mp4"), n % 2, f"{n}") for n in range(4))
    items = [{"distance": "close"}, {"distance": "distant"}] * 2
    folds = np.array([0, 0, 1, 1])
    return Study(ClipSet(("a", "b"), clips, {}), items, ["u"] * 4, folds, tmp_path, load_recipe("sky"))


def test_rows_count_what_each_rule_gets_right_in_each_fold(study: Study, tmp_path: Path) -> None:
    good = np.tile(np.array([1.0, 0.0], np.float32), (8, 1))
    fooled = good.copy()
    fooled[0] = 0.0, 6.0  # class 0, and one frame says otherwise
    np.savez(tmp_path / "method-0-0-0.001.npz", clips=[0, 1], box=np.stack([fooled, good[:, ::-1]]))
    np.savez(tmp_path / "method-1-0-0.001.npz", clips=[2, 3], box=np.stack([good, good]))
    rows = {(row["rule"], row["fold"]): row for row in rows_of(study, tmp_path, "method")}
    assert rows["mean", "0"]["accuracy"] == 1.0
    assert rows["middle of extremes", "0"]["accuracy"] == 0.5
    assert rows["mean", "all"]["accuracy"] == 0.75
    assert rows["middle of extremes", "all"]["mean_gains"] == 0.25
    assert rows["mean", "1"]["close_and_medium"] == 1.0


def test_a_folder_without_runs_is_named(study: Study, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no run of method"):
        rows_of(study, tmp_path, "method")

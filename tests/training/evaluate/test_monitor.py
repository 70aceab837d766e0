"""Which epoch is the best is decided on the split and by the metric that the recipe names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from adafocus.cli.main import main
from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.clips import ClipSet
from adafocus.training.data.lists import PUBLISHED_LISTS
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError, ResumeError
from adafocus.training.evaluate.monitor import validation_clips
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import known_recipes, load_recipe
from adafocus.training.run.train import TrainingResult, train
from tests.training.test_commands import TOML

Make = Callable[..., Recipe]


@pytest.fixture(scope="module")
def parted(clip_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clips in split folders, three training clips of each class and two validation clips."""
    root = tmp_path_factory.mktemp("parted")
    for index, clip in enumerate(list_clips(clip_folder).clips):
        folder = root / ("train" if index % 5 < 3 else "val") / clip.path.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip.path, folder)
    return root


def trained(parted: Path, recipe: Recipe, out: Path, watched: ClipSet | None = None) -> TrainingResult:
    watched = watched or validation_clips(parted, recipe)
    return train(list_clips(parted, "train"), recipe, out, validation=watched)


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "map"])
def test_the_best_epoch_is_kept_by_the_metric_named(
    parted: Path, tmp_path: Path, tiny_recipe: Make, metric: str
) -> None:
    optimiser = {"epochs": 5, "batch_size": 3, "lr": 0.02}
    recipe = tiny_recipe(holdout=0.0, validation_split="val", monitor=metric, optimiser=optimiser)
    history = trained(parted, recipe, tmp_path / "run").history
    best = max(history, key=lambda row: (row[f"validation_{metric}"], row["epoch"]))
    kept = read_checkpoint(tmp_path / "run" / "best.pt").metadata
    assert kept["epoch"] == best["epoch"]
    assert kept["provenance"]["metrics"][f"validation_{metric}"] == best[f"validation_{metric}"]
    assert kept["held_aside"] == []
    assert not any(name.startswith("holdout_") for row in history for name in row)


def test_what_is_held_aside_is_not_what_is_watched(parted: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    recipe = tiny_recipe(holdout=0.5, validation_split="val", optimiser={"epochs": 1, "batch_size": 2})
    row = trained(parted, recipe, tmp_path / "run").history[-1]
    assert "validation_macro_f1" in row
    assert "holdout_macro_f1" not in row
    kept = read_checkpoint(tmp_path / "run" / "best.pt").metadata
    val = {clip.identity for clip in list_clips(parted, "val").clips}
    assert kept["held_aside"]
    assert not val & {*kept["held_aside"], *kept["learned_from"]}


def test_other_clips_or_another_metric_are_another_best(parted: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    recipe = tiny_recipe(holdout=0.0, validation_split="val", optimiser={"epochs": 1, "batch_size": 3})
    trained(parted, recipe, tmp_path)
    trained(parted, recipe, tmp_path)
    fewer = list_clips(parted, "val")
    with pytest.raises(ResumeError, match="other clips"):
        trained(parted, recipe, tmp_path, fewer.only(fewer.clips[1:]))
    with pytest.raises(ResumeError, match="another recipe"):
        trained(parted, recipe.with_options(monitor="map"), tmp_path)


def test_watching_what_is_learned_from_is_warned_of(parted: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    recipe, told = tiny_recipe(holdout=0.0, validation_split="train"), list[str]()
    data = list_clips(parted, "train")
    train(data, recipe, tmp_path, say=told.append, validation=validation_clips(parted, recipe))
    assert "6 clips of split train are evaluated after each epoch" in told
    assert any("6 of 6 validation clips are training clips, too, first" in line for line in told)


def test_published_recipes_watch_val_by_the_metric_of_their_data_set() -> None:
    names = {"map": "map", "top1": "accuracy"}
    for name in set(known_recipes()) - {"sky", "tank_state", "small", "small_pretrained", "small_scratch"}:
        recipe = load_recipe(name)
        assert (recipe.validation_split, recipe.monitor) == ("val", names[PUBLISHED_LISTS[recipe.lists].metric]), name


def test_a_published_recipe_asks_for_the_list_to_watch_or_to_be_told_not_to(clip_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "actnet_train_split.txt").write_text("")
    with pytest.raises(DataError, match=r"actnet_val_split\.txt.*--validation-split '' does without"):
        validation_clips(tmp_path, load_recipe("actnet_mbv2_p128"))
    assert validation_clips(tmp_path, load_recipe("tank_state")) is None


def test_as_typed(parted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tiny.toml").write_text(TOML.replace("holdout = 0.5", "holdout = 0.0"))
    asked = ["train", "--data", str(parted), "--config", str(tmp_path / "tiny.toml"), "--out"]
    assert main([*asked, str(tmp_path / "none")]) == 0
    assert not (tmp_path / "none" / "best.pt").exists()
    assert main([*asked, str(tmp_path / "val"), "--watch-split", "val"]) == 0
    assert (tmp_path / "val" / "best.pt").exists()
    assert "validation_macro_f1" in capsys.readouterr().err
    assert main([*asked, str(tmp_path / "other"), "--watch-split", "test"]) == 1
    assert "no such split (the recipe validates on split 'test'" in capsys.readouterr().err

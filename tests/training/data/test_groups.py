"""Clips of one source stay on one side of every split."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.cli.main import main
from adafocus.training.data.clips import Clip, ClipSet, fold_of, hold_out
from adafocus.training.data.groups import units_of
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import CalibrationError, DataError, ResumeError
from adafocus.training.evaluate.inference import load_trained, predict_holdout, predict_unseen
from adafocus.training.recipe import Recipe
from adafocus.training.run.train import train

Make = Callable[..., Recipe]

rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 25), st.integers(-3, 9)), min_size=2, max_size=60)
"""Class, identity, and group of clips; a negative one is none."""


def made(found: list[tuple[int, int, int]]) -> list[Clip]:
    return [
        Clip(Path(str(place)), label, str(number), group=f"camera {group}" if group >= 0 else "")
        for place, (label, number, group) in enumerate(found)
    ]


@given(rows, st.integers(2, 5), st.integers(0, 3))
def test_no_split_divides_a_group_or_identical_clips(found: list[tuple[int, int, int]], parts: int, seed: int) -> None:
    clips = made(found)
    if len(set(units_of(clips))) < parts:
        if any(clip.group for clip in clips):
            with pytest.raises(DataError, match=r"group\(s\), too few to split them into"):
                fold_of(clips, parts, seed)
        return
    which = fold_of(clips, parts, seed)
    assert fold_of(clips[::-1], parts, seed) == which[::-1]
    data = ClipSet(("a", "b", "c", "d"), tuple(clips), {})
    for fold in range(parts):
        learned, aside = hold_out(data, parts, fold, seed)
        assert sorted(clip.path for clip in learned.clips + aside.clips) == sorted(clip.path for clip in clips)
        assert not {clip.identity for clip in learned.clips} & {clip.identity for clip in aside.clips}
        assert not {clip.group for clip in learned.clips if clip.group} & {clip.group for clip in aside.clips}
        assert {clip.label for clip in learned.clips} == {clip.label for clip in clips}


def test_a_duplicate_in_two_groups_makes_them_one() -> None:
    clips = [
        Clip(Path("1"), 0, "a", group="x"),
        Clip(Path("2"), 0, "b", group="x"),
        Clip(Path("3"), 0, "b", group="y"),
        Clip(Path("4"), 0, "c", group="y"),
        Clip(Path("5"), 0, "d"),
    ]
    assert units_of(clips) == ["a", "a", "a", "a", "d"]


def test_groups_of_unlike_sizes_are_spread_evenly() -> None:
    sizes = [83, 62, 60, 45, 32, 13, 12, 8, 5]
    clips = [
        Clip(Path(f"{group} {number}"), number % 4, f"{group} {number}", group=str(group))
        for group, size in enumerate(sizes)
        for number in range(size)
    ]
    which = fold_of(clips, 3)
    counts = [which.count(part) for part in range(3)]
    assert max(counts) < 1.3 * min(counts)


def manifest(folder: Path, clips: ClipSet, groups: list[str], splits: list[str] | None = None) -> Path:
    items = [
        {"file": str(clip.path), "label": clips.labels[clip.label], "group": group}
        for clip, group in zip(clips.clips, groups, strict=True)
    ]
    for item, split in zip(items, splits or [], strict=False):
        item["split"] = split
    folder.mkdir(exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps({"name": "grouped", "items": items}))
    return folder


GROUPS = [name for _ in range(2) for name in ("north", "north", "south", "south", "east")]


def test_manifests_name_groups_and_training_keeps_them_apart(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    data = list_clips(manifest(tmp_path / "data", list_clips(clip_folder), GROUPS))
    lines = [f"{clip.path},{data.labels[clip.label]},{clip.group}" for clip in data.clips]
    (tmp_path / "data" / "other.csv").write_text("\n".join(["file,label,group", *lines]))
    assert list_clips(tmp_path / "data" / "other.csv").clips == data.clips
    group = {clip.identity: clip.group for clip in data.clips}
    runs = [train(data, tiny_recipe(holdout=0.34, fold=f), tmp_path / str(f)).checkpoint for f in range(3)]
    models = [load_trained(run) for run in runs]
    for model in models:
        assert {group[one] for one in model.learned_from} == model.learned_groups
        assert not {group[one] for one in model.held_aside} & model.learned_groups
    assert len(predict_holdout(models, data).labels) == 10
    with pytest.raises(ResumeError, match="other clips"):
        train(data.only(replace(clip, group="") for clip in data.clips), tiny_recipe(holdout=0.34), tmp_path / "0")


def test_calibration_refuses_clips_of_a_group_that_was_learned_from(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = list_clips(clip_folder)
    split = ["train", "train", "train", "val", "val"] * 2
    folder = manifest(tmp_path / "data", clips, GROUPS, split)
    told: list[str] = []
    validation = list_clips(folder, "val")
    done = train(
        list_clips(folder, "train"), tiny_recipe(holdout=0), tmp_path / "run", say=told.append, validation=validation
    )
    assert any("2 of 4 validation clips share a group with training clips" in line for line in told)
    trained = load_trained(done.checkpoint)
    with pytest.raises(CalibrationError, match="2 of 4 calibration clips share a group with training clips"):
        predict_unseen(trained, validation)
    unseen = validation.only(clip for clip in validation.clips if clip.group == "east")
    assert len(predict_unseen(trained, unseen).labels) == 2
    assert main(["evaluate", "--checkpoint", str(done.checkpoint), "--data", str(folder), "--split", "val"]) == 0
    assert "warning: 2 of 4 clips, or others of their group, were learned from" in capsys.readouterr().err


def test_groups_named_after_training_are_noticed_by_calibration(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    clips = list_clips(clip_folder)
    trained = load_trained(train(clips, tiny_recipe(holdout=0.5), tmp_path / "run").checkpoint)
    grouped = list_clips(manifest(tmp_path / "data", clips, ["all"] * 10))
    with pytest.raises(CalibrationError, match="share a group with training clips"):
        predict_holdout([trained], grouped)


def test_too_few_groups_for_a_fold_are_refused_in_one_line(
    clip_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = manifest(tmp_path / "data", list_clips(clip_folder), ["one", "two"] * 5)
    assert main(["train", "--data", str(folder), "--config", "small", "--out", str(tmp_path / "run")]) == 1
    said = capsys.readouterr().err
    assert "10 clips form 2 group(s), too few to split them into 5 parts; use a larger holdout" in said
    assert said.count("\n") == 1

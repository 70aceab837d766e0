"""The published data sets' lists, as frames and as videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import serving_plan, training_plan
from adafocus.training.data.crops import decode_all, decode_clip
from adafocus.training.data.manifests import default_split, list_clips
from adafocus.training.errors import DataError
from adafocus.training.recipe import Recipe
from tests.training.conftest import write_clip

Make = Callable[..., Recipe]


def write_frames(folder: Path, template: str, frames: int) -> None:
    folder.mkdir(parents=True)
    for number in range(1, frames + 1):
        Image.fromarray(np.full((40, 60, 3), 10 * number, dtype=np.uint8)).save(folder / template.format(number))


def test_comma_lists_with_several_labels(tmp_path: Path, tiny_recipe: Make) -> None:
    write_frames(tmp_path / "frames" / "v_one", "image_{:05d}.jpg", 8)
    write_clip(tmp_path / "v two.mp4", red=100)
    (tmp_path / "actnet_train_split.txt").write_text("v_one,8,5,-1\nv two,12,7,199\nv_short,2,0\n\n")
    found = list_clips(tmp_path, default_split(tmp_path, "actnet"), "actnet")
    assert found.multi_label
    assert len(found.labels) == 200
    assert [clip.all_labels for clip in found.clips] == [(5,), (7, 199), (0,)]
    crops = decode_all(found, serving_plan(tiny_recipe(data={"resize": 32})))
    assert [str(broken.reason) for broken in crops.broken] == ["it has 2 frames; clips of a list need at least 3"]
    # Eight frames in two steps: indices 2 and 6, the second one first in neither order; numbers count from 1.
    assert [int(round(float(frame.mean()), -1)) for frame in crops.pixels[0]] == [30, 70]


@pytest.mark.parametrize("name", ["minik", "something", "somethingv2", "jester"])
def test_space_lists_keep_spaces_in_the_path(tmp_path: Path, name: str) -> None:
    file = "mini_val_videofolder.txt" if name == "minik" else "val_videofolder.txt"
    (tmp_path / file).write_text("riding a bike/é clip 3.mp4 120 4\nplain 60 0\n", encoding="utf-8")
    found = list_clips(tmp_path, "val", name)
    assert [clip.path.relative_to(tmp_path).as_posix() for clip in found.clips] == [
        "riding a bike/é clip 3.mp4",
        "plain",
    ]
    assert [(clip.frames, clip.label) for clip in found.clips] == [(120, 4), (60, 0)]
    assert not found.multi_label


@pytest.mark.parametrize("line", ["v 10 99", "v 10", "v ten 3", "v 10 -1"])
def test_a_line_that_makes_no_sense_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "train_videofolder.txt").write_text(f"ok 10 3\n{line}\n")
    with pytest.raises(DataError, match=r"train_videofolder\.txt line 2 is .*a class from 0 to 26"):
        list_clips(tmp_path, "train", "jester")


def test_class_names_are_read_and_counted(tmp_path: Path) -> None:
    (tmp_path / "train_videofolder.txt").write_text("ok 10 3\n")
    (tmp_path / "category.txt").write_text("\n".join(f"wave {n}" for n in range(27)))
    assert list_clips(tmp_path, None, "jester").labels[3] == "wave 3"
    (tmp_path / "category.txt").write_text("one\ntwo\n")
    with pytest.raises(DataError, match="must name 27 different classes, one per line; it names 2"):
        list_clips(tmp_path, None, "jester")
    with pytest.raises(DataError, match="none of the lists"):
        list_clips(tmp_path, None, "minik")
    with pytest.raises(DataError, match="lists must be one of actnet"):
        list_clips(tmp_path, None, "k400")
    with pytest.raises(DataError, match="no split 'test'"):
        list_clips(tmp_path, "test", "jester")


def test_a_folder_of_images_is_cropped_as_pillow_would(tmp_path: Path, tiny_recipe: Make) -> None:
    ramp = np.linspace(0, 255, 90 * 64 * 3).reshape(64, 90, 3).astype(np.uint8)
    for name in ("b.png", "a.png", "c.jpg"):
        Image.fromarray(ramp).save(tmp_path / name, quality=98)
    crop = decode_clip(Clip(tmp_path, 0, "x"), serving_plan(tiny_recipe(data={"resize": 32})))[1]
    small = np.asarray(Image.fromarray(ramp).resize((45, 32), Image.Resampling.BILINEAR))[:, 6:38]
    assert np.abs(small.astype(int) - crop).mean() < 1.5


def test_short_clips_are_spread_over_the_candidates_as_over_the_steps(tiny_recipe: Make) -> None:
    plan = training_plan(tiny_recipe(data={"resize": 32, "candidates": 3}))
    assert plan.wanted(4) == (0, 1, 1, 2, 3, 3)
    assert plan.wanted(2) == (0, 0, 0, 1, 1, 1)
    assert plan.wanted(60) == (5, 15, 25, 35, 45, 55)


def test_lists_that_number_their_clips_alike_share_no_pixels(tmp_path: Path, tiny_recipe: Make) -> None:
    plan, seen = serving_plan(tiny_recipe(data={"resize": 32})), []
    for name, template, grey in (("something", "{:05d}.jpg", 40), ("jester", "{:05d}.jpg", 200)):
        folder = tmp_path / name
        (folder / "34").mkdir(parents=True)
        for number in range(1, 9):
            Image.fromarray(np.full((40, 60, 3), grey, dtype=np.uint8)).save(folder / "34" / template.format(number))
        (folder / "train_videofolder.txt").write_text("34 8 0\n")
        found = list_clips(folder, "train", name)
        crops = decode_all(found, plan, tmp_path / "cache")
        seen.append((found.clips[0].identity, round(float(crops.pixels[0].mean()))))
    assert [grey for _, grey in seen] == [40, 200]
    assert seen[0][0] != seen[1][0]

"""Judging keeps the frames of a few clips at a time, in whatever way they are decoded."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.crops import Broken, decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError
from adafocus.training.evaluate import inference
from adafocus.training.evaluate.inference import load_trained, predict_clips
from adafocus.training.evaluate.report import predict
from adafocus.training.recipe import Recipe
from adafocus.training.run.train import train

Make = Callable[..., Recipe]


def test_judging_equals_predicting_on_kept_frames(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(clip_folder, folder)
    (folder / "rød" / "broken.mp4").write_bytes(b"no video")
    data, told = list_clips(folder), list[Broken]()
    trained = load_trained(train(list_clips(clip_folder), tiny_recipe(), tmp_path / "run").checkpoint)
    monkeypatch.setattr(inference, "BATCH", 4)  # not a divisor of the ten clips
    predictions = predict_clips(trained, data, report=told.append)
    assert [broken.path.name for broken in told] == ["broken.mp4"]
    crops = decode_all(data, serving_plan(trained.recipe))
    expected = predict(trained.model, crops, batch_size=4)
    np.testing.assert_array_equal(predictions.logits, expected)
    np.testing.assert_array_equal(predict_clips(trained, data, tmp_path / "cache").logits, expected)
    anew = decode_all(data, serving_plan(trained.recipe), keep=False)
    np.testing.assert_array_equal(predict(trained.model, anew, batch_size=4), expected)
    kept = anew.without({anew.data.clips[0].identity})
    assert len(kept.pixels) == 9
    assert len(kept.and_those(anew).pixels) == 19


def test_judging_keeps_few_frames_at_a_time(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = load_trained(train(list_clips(clip_folder), tiny_recipe(), tmp_path / "run").checkpoint)
    alive: list[weakref.ref[np.ndarray]] = []
    most: list[int] = []
    decode, run = inference.decode_each, inference.clip_logits

    def decoded(*arguments: object, **named: object) -> Iterator[tuple[Clip, np.ndarray]]:
        for clip, pixels in decode(*arguments, **named):
            alive.append(weakref.ref(pixels))
            yield clip, pixels

    def counted(model: inference.Model, pixels: list[np.ndarray]) -> np.ndarray:
        gc.collect()
        most.append(sum(one() is not None for one in alive))
        return run(model, pixels)

    monkeypatch.setattr(inference, "BATCH", 3)
    monkeypatch.setattr(inference, "decode_each", decoded)
    monkeypatch.setattr(inference, "clip_logits", counted)
    predict_clips(trained, list_clips(clip_folder))
    assert len(alive) == 10
    assert max(most) <= 4


def test_a_cache_without_space_is_refused(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = list_clips(clip_folder)
    trained = load_trained(train(data, tiny_recipe(), tmp_path / "run").checkpoint)
    monkeypatch.setattr("adafocus.training.data.capacity.free_disk", lambda folder: 10)
    with pytest.raises(DataError, match=r"10 clips need about 1 MB in .*; give --cache a folder with"):
        predict_clips(trained, data, tmp_path / "cache")

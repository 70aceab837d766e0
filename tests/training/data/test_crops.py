"""Crops equal the frames of the service, and a broken clip does not stop anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from adafocus.training.data.augment import Augment, normalise, serving_batch
from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import serving_plan, training_plan
from adafocus.training.data.crops import Broken, decode_all, decode_clip
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError
from adafocus.training.recipe import Recipe
from adafocus.video.decoder import FrameStream
from adafocus.video.probe import open_video
from adafocus.video.sampler import wanted_frames
from adafocus.video.transform import Geometry
from tests.training.conftest import write_clip

Make = Callable[..., Recipe]


def as_clip(path: Path) -> Clip:
    return Clip(path, 0, path.name)


def test_evaluation_sees_what_a_server_sees(clip_folder: Path, tiny_recipe: Make) -> None:
    path = clip_folder / "rød" / "klipp 0.mp4"
    plan = serving_plan(tiny_recipe())
    with path.open("rb") as file, open_video(file) as video:
        wanted = wanted_frames(video.info.frames or 0, frames=2, order=plan.order, first_frame=3)
        stream = FrameStream(video, wanted, Geometry(32, 32))
        served = []
        while (frame := stream.next()) is not None:
            served.append(frame.pixels)
        stream.close()
    np.testing.assert_array_equal(decode_clip(as_clip(path), plan), np.stack(served))


def test_training_keeps_candidates_in_time_order_and_never_the_first_frames(tmp_path: Path, tiny_recipe: Make) -> None:
    plan = training_plan(tiny_recipe())
    path = write_clip(tmp_path / "clip.mp4", red=100, frames=30)
    assert min(plan.wanted(30)) >= 3
    assert list(plan.wanted(30)) == sorted(plan.wanted(30))
    assert decode_clip(as_clip(path), plan).shape == (4, 36, 36, 3)


def test_a_clip_shorter_than_asked_repeats_its_last_frame(tmp_path: Path, tiny_recipe: Make) -> None:
    pixels = decode_clip(as_clip(write_clip(tmp_path / "short.mp4", red=100, frames=2)), serving_plan(tiny_recipe()))
    assert pixels.shape == (2, 32, 32, 3)


def test_broken_clips_are_reported_with_their_path_and_skipped(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(clip_folder, folder)
    broken = [folder / "rød" / "no video.mp4", folder / "blue sky" / "empty.mp4"]
    broken[0].write_bytes(b"not a video at all" * 20)
    broken[1].write_bytes(b"")
    told: list[Broken] = []
    crops = decode_all(list_clips(folder), serving_plan(tiny_recipe()), report=told.append)
    assert {item.path for item in crops.broken} == set(broken)
    assert list(crops.broken) == told
    assert all(item.reason for item in told)
    assert len(crops.data.clips) == len(crops.pixels) == 10


def test_decoding_stops_when_asked_to(clip_folder: Path, tiny_recipe: Make) -> None:
    class StoppedError(Exception):
        pass

    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise StoppedError

    with pytest.raises(StoppedError):
        decode_all(list_clips(clip_folder), serving_plan(tiny_recipe()), check=check)


def test_nothing_decodable_is_an_error(tmp_path: Path, tiny_recipe: Make) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.mp4").write_bytes(b"x")
    with pytest.raises(DataError, match="none of 2 clips"):
        decode_all(list_clips(tmp_path), serving_plan(tiny_recipe()))


def test_the_cache_on_disk_is_found_again(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    data, plan = list_clips(clip_folder), serving_plan(tiny_recipe())
    fresh = decode_all(data, plan)
    kept = decode_all(data, plan, tmp_path / "cache")
    files = sorted((tmp_path / "cache").rglob("*.npy"))
    written = [file.stat().st_mtime_ns for file in files]
    again = decode_all(data, plan, tmp_path / "cache")
    assert len(files) == 10
    assert [file.stat().st_mtime_ns for file in files] == written
    for one, two, three in zip(fresh.pixels, kept.pixels, again.pixels, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


def test_normalisation_is_imagenets() -> None:
    grey = normalise(torch.full((1, 3, 1, 1), 255.0)).flatten()
    torch.testing.assert_close(grey, torch.tensor([(1 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]))


def test_serving_batch_changes_no_geometry() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    batch = serving_batch([pixels])
    assert batch.shape == (1, 2, 3, 5, 5)
    torch.testing.assert_close(batch[0, 1, :, 2, 3], normalise(torch.from_numpy(pixels[1, 2, 3]).view(3, 1, 1)).view(3))


def test_augmentation_is_decided_by_its_generator(tiny_recipe: Make) -> None:
    augment = Augment(tiny_recipe().data, 32)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 36, 36, 3), dtype=np.uint8)
    one, same = (augment(pixels, np.random.default_rng(1)) for _ in range(2))
    assert one.shape == (2, 3, 32, 32)
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one, augment(pixels, np.random.default_rng(2)))


def test_without_randomness_training_equals_the_source_square(tiny_recipe: Make) -> None:
    still = {"resize": 32, "source_size": 32, "candidates": 1, "scales": [1.0], "flip": 0.0}
    recipe = tiny_recipe(data=still)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    frames = Augment(recipe.data, 32)(pixels, np.random.default_rng(5))
    torch.testing.assert_close(normalise(frames[None]), serving_batch([pixels]))


def test_a_damaged_file_of_the_cache_is_made_anew(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    data, plan = list_clips(clip_folder), serving_plan(tiny_recipe())
    whole = [np.array(pixels) for pixels in decode_all(data, plan, tmp_path).pixels]
    files = sorted(tmp_path.rglob("*.npy"))
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-1])
    files[2].write_bytes(b"no array at all")
    again = decode_all(data, plan, tmp_path).pixels
    assert all(np.array_equal(one, other) for one, other in zip(again, whole, strict=True))
    files[3].unlink()
    with pytest.raises(DataError, match=r"\.npy of the cache is missing or damaged; the same command makes it again"):
        list(again)

"""Kept frames come back: exactly as pixels, closely as JPEG, and a damaged file is noticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adafocus.training.data.crop_plan import CropPlan
from adafocus.training.data.frame_store import JpegFrames, is_whole, load_pixels, open_file, save
from adafocus.training.errors import DataError

PLAN = CropPlan(2, (0, 1), 0, 32, 32, candidates=3, jpeg_quality=95)


@pytest.fixture
def pictures() -> np.ndarray:
    """Six smooth pictures of 32 pixels, each of another colour."""
    y, x = np.mgrid[0:32, 0:32] * 4
    return np.stack([np.stack([x, y, np.full_like(x, 40 * n)], axis=2) for n in range(6)]).astype(np.uint8)


def test_jpeg_frames_come_back_closely_in_any_order(pictures: np.ndarray) -> None:
    kept = JpegFrames.encode(pictures, 95)
    assert len(kept) == 6
    places = np.array([5, 0, 3, 3])
    found = kept[places]
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - pictures[places]).mean() < 1.5
    again = JpegFrames.from_array(kept.to_array())
    np.testing.assert_array_equal(again[places], found)


def test_chroma_is_not_subsampled() -> None:
    columns = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    columns[:, :, ::2, 0], columns[:, :, 1::2, 2] = 255, 255  # red and blue by turns
    assert np.abs(JpegFrames.encode(columns, 95)[np.array([0])].astype(int) - columns).mean() < 8


def test_files_hold_jpeg_or_pixels_as_the_plan_says(tmp_path: Path, pictures: np.ndarray) -> None:
    raw = CropPlan(2, (0, 1), 0, 32, 32, candidates=3)
    save(pictures, raw, tmp_path / "raw.npy")
    save(pictures, PLAN, tmp_path / "jpeg.npy")
    assert (tmp_path / "jpeg.npy").stat().st_size * 2 < (tmp_path / "raw.npy").stat().st_size
    np.testing.assert_array_equal(load_pixels(tmp_path / "raw.npy"), pictures)
    assert np.abs(load_pixels(tmp_path / "jpeg.npy").astype(int) - pictures).mean() < 1.5
    assert is_whole(tmp_path / "raw.npy", raw)
    assert is_whole(tmp_path / "jpeg.npy", PLAN)
    assert not is_whole(tmp_path / "jpeg.npy", raw)
    assert not is_whole(tmp_path / "absent.npy", PLAN)


@pytest.mark.parametrize("damage", [b"", b"no array at all"])
def test_a_damaged_file_is_named(tmp_path: Path, pictures: np.ndarray, damage: bytes) -> None:
    file = tmp_path / "a.npy"
    save(pictures, PLAN, file)
    whole = file.read_bytes()
    for content in (damage, whole[:-1], whole[:140]):
        file.write_bytes(content)
        assert not is_whole(file, PLAN)
        with pytest.raises(DataError, match=r"a\.npy of the cache is missing or damaged; the same command makes it"):
            open_file(file)


def test_a_damaged_frame_is_an_error_of_the_data(pictures: np.ndarray) -> None:
    kept = JpegFrames.encode(pictures, 95)
    whole = kept.to_array()
    whole[8 * 7 : 8 * 7 + 20] = 0
    with pytest.raises(DataError, match="a kept frame cannot be decoded"):
        JpegFrames.from_array(whole)[np.array([0])]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adafocus.bundle.manifest import FrameGeometry, Sampling
from adafocus.export.errors import ExportError
from adafocus.export.example_frames import frames_per_video, noise, real, texture, verification_videos
from tests.e2e.tiny import BRIGHTNESS, write_clip

FRAMES = Sampling(frames=4, order=(1, 0, 3, 2))
CLIP = Sampling(frames=3, focus_frames=5, order=(0, 1, 2))
GEOMETRY = FrameGeometry(resize=36, crop=32)


@pytest.mark.parametrize("make", [noise, texture])
def test_made_up_frames_use_the_whole_range_and_can_be_made_again(make: type) -> None:
    frames = make(5, 32, 3)
    assert frames.shape == (5, 32, 32, 3)
    assert frames.dtype == np.uint8
    assert (frames.min(), frames.max()) == (0, 255)
    assert np.array_equal(frames, make(5, 32, 3))
    assert not np.array_equal(frames, make(5, 32, 4))
    assert not np.array_equal(frames[0], frames[4])


def test_texture_is_smooth_where_noise_is_not() -> None:
    assert np.abs(np.diff(texture(1, 64).astype(int), axis=1)).mean() < 30
    assert np.abs(np.diff(noise(1, 64).astype(int), axis=1)).mean() > 60


@pytest.mark.parametrize("sampling", [FRAMES, CLIP])
def test_a_real_video_is_read_as_the_service_reads_it(tmp_path: Path, sampling: Sampling) -> None:
    clip = write_clip(tmp_path / "bright.mp4", "bright", seconds=2)
    frames = real(clip, sampling, GEOMETRY)
    assert frames.shape == (frames_per_video(sampling), 32, 32, 3)
    assert abs(frames.astype(float).mean() - BRIGHTNESS["bright"]) < 3
    assert len(verification_videos([clip], sampling, GEOMETRY)) == 3
    assert len(verification_videos([], sampling, GEOMETRY)) == 3


def test_what_is_no_video_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"gone\.mp4: cannot be read \(no such file or directory\)"):
        real(tmp_path / "gone.mp4", FRAMES, GEOMETRY)
    text = tmp_path / "notes.mp4"
    text.write_text("not a video at all" * 10)
    with pytest.raises(ExportError, match=r"notes\.mp4: "):
        real(text, FRAMES, GEOMETRY)

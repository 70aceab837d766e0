"""Frames per second where a file's times lie."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.video.probe import MAX_FRAMES_PER_SECOND, _possible_rate


@given(st.floats())
def test_no_rate_is_told_that_no_video_can_have(fps: float) -> None:
    told = _possible_rate(fps)
    assert told is None or (0 < told <= MAX_FRAMES_PER_SECOND and told == fps)


@pytest.mark.parametrize("fps", [None, 0.0, -25.0, 3e9, math.inf, math.nan])
def test_nonsense_is_no_rate(fps: float | None) -> None:
    assert _possible_rate(fps) is None

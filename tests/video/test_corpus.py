"""Every clip of the corpus beside the project has the outcome that its manifest expects."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from adafocus.video.transform import Geometry, Resizer
from tests.video.clips import order_16, outcome, read_frames

ALLOWED = {
    "ok": {"ok"},
    "ok_partial": {"ok", "partial", "undecodable"},
    "ok_or_reject": {"ok", "partial", "undecodable", "unsupported_media"},
    "ok_or_limit": {"ok", "too_long", "too_many_pixels"},
    "reject_unreadable": {"unsupported_media", "undecodable"},
    "reject_no_video": {"no_video_stream"},
    "reject_zero_frames": {"undecodable"},
    "reject_encrypted": {"undecodable"},
    "reject_not_video": {"unsupported_media"},
    "reject_too_small": {"ok", "undecodable"},
    "reject_unsafe": {"unsupported_media"},
    "reject_limit": {"too_many_pixels", "too_long"},
}
# Narrower than the manifest: these must be answered from what is there.
MUST_ANSWER = {"corrupted_midstream_720p.mp4", "truncated_faststart_50pct.mp4", "zeroed_middle.mp4"}


@pytest.fixture(scope="module")
def corpus(shared_dir: Path) -> list[dict[str, Any]]:
    manifest = json.loads((shared_dir / "videos" / "manifest.json").read_text())
    items: list[dict[str, Any]] = manifest["items"]
    return items


def test_every_file_has_its_expected_outcome(corpus: list[dict[str, Any]], shared_dir: Path) -> None:
    wrong = {}
    for item in corpus:
        found = outcome(shared_dir / "videos" / item["file"])
        allowed = {"ok", "partial"} if item["file"] in MUST_ANSWER else ALLOWED[item["expected"]]
        if found not in allowed:
            wrong[item["file"]] = f"{found}, not {item['expected']}"
    assert wrong == {}
    assert len(corpus) >= 60


def test_what_is_said_of_a_video_agrees_with_the_manifest(corpus: list[dict[str, Any]], shared_dir: Path) -> None:
    for item in corpus:
        seen = item["observed"]
        if item["expected"] != "ok" or len(seen["frame_shapes"]) != 1:
            continue
        frames, stream, video = read_frames(shared_dir / "videos" / item["file"])
        assert len(frames) == video.info.frames == seen["decoded_frames"], item["file"]
        assert stream.frames_decoded == video.index.packets, item["file"]
        assert {video.info.width, video.info.height} == {seen["width"], seen["height"]}, item["file"]
        assert video.info.rotation == -seen["rotation"] % 360, item["file"]


def test_seeking_gives_what_a_scan_gives(corpus: list[dict[str, Any]], shared_dir: Path) -> None:
    compared = 0
    for item in corpus:
        if item["expected"] not in ("ok", "ok_partial") or item["observed"]["key_frames"] < 2:
            continue
        path = shared_dir / "videos" / item["file"]
        scan = {frame.index: frame.pixels for frame in read_frames(path)[0]}
        for wanted in (order_16(len(scan)), tuple(range(len(scan) - 1, -1, -3))):
            frames, stream, video = read_frames(path, wanted)
            assert [frame.index for frame in frames] == [index for index in wanted if index in scan], item["file"]
            assert all(np.array_equal(frame.pixels, scan[frame.index]) for frame in frames), item["file"]
            assert stream.frames_decoded <= video.index.packets, item["file"]
        compared += 1
    assert compared >= 6


def test_a_resizer_may_serve_one_video_after_the_other(corpus: list[dict[str, Any]], shared_dir: Path) -> None:
    geometry, compared = Geometry(48, 48, "letterbox"), 0
    used = Resizer(48, 48, "letterbox")
    for item in corpus:
        path = shared_dir / "videos" / item["file"]
        if item["expected"] not in ("ok", "ok_partial") or path.stat().st_size > 1_000_000:
            continue
        wanted = (0,) if item["observed"]["decoded_frames"] < 3 else (2, 0)
        expected = [frame.pixels for frame in read_frames(path, wanted, geometry)[0]]
        got = [frame.pixels for frame in read_frames(path, wanted, used)[0]]
        assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True)), item["file"]
        compared += 1
    assert compared >= 30

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adafocus.bundle.store import load_bundle, write_bundle
from adafocus.cli.main import main
from adafocus.export import compress as module
from adafocus.export import stored_weights
from adafocus.export.compress import answers_at_exits, compress
from adafocus.export.errors import ExportError, LossError
from adafocus.export.exporter import Export
from tests.e2e.tiny import write_clip


@pytest.fixture(autouse=True)
def _tiny_weights_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_weights, "SMALLEST_WEIGHT", 64)
    monkeypatch.setattr(module, "FEWEST_VIDEOS", 2)


@pytest.fixture
def folder(tmp_path: Path, frame_export: Export) -> Path:
    write_bundle(tmp_path / "toy", frame_export.manifest, frame_export.files)
    return tmp_path / "toy"


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for seconds in (1, 2):
        write_clip(folder / f"{seconds}.mp4", seconds=seconds)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def test_the_new_bundle_is_smaller_and_says_what_was_measured(
    folder: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "small"
    assert main(["compress", str(folder), "--data", str(videos), "--agreement", "0", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes_after"] < told["bytes_before"] and told["clips"] == 2
    compressed = load_bundle(out).manifest.compressed
    assert compressed is not None and 0 <= compressed.agreement_at_exits <= compressed.agreement
    assert main(["inspect", str(out)]) == 0
    assert "Weights are stored in fewer bits and widened when a graph is loaded" in capsys.readouterr().out


def test_a_bundle_whose_answers_change_is_not_written(
    folder: Path, videos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = iter(range(2))
    monkeypatch.setattr(
        module, "answers_at_exits", lambda manifest, logits: {"full": np.arange(len(logits)) + next(calls)}
    )
    with pytest.raises(LossError, match=r"same answer for 0\.0% of 2 videos, and 99\.0% is the least allowed"):
        compress(load_bundle(folder), sorted(videos.iterdir()), "clips")


def test_what_was_certified_is_not_promised_any_more(folder: Path, videos: Path) -> None:
    made = compress(load_bundle(folder), sorted(videos.iterdir()), "clips", 0.0)
    assert all(point.guarantee is None for point in made.manifest.operating_points)


def test_compressing_twice_is_refused(folder: Path, videos: Path, tmp_path: Path) -> None:
    made = compress(load_bundle(folder), sorted(videos.iterdir()), "clips", 0.0)
    again = write_bundle(tmp_path / "small", made.manifest, made.files)
    with pytest.raises(ExportError, match="has no graph whose weights could be stored in fewer bits"):
        compress(again, sorted(videos.iterdir()), "clips", 0.0)


def test_too_few_videos_are_refused(folder: Path, videos: Path) -> None:
    with pytest.raises(ExportError, match="clips has 0 videos that can be read; at least 2 are needed"):
        compress(load_bundle(folder), [videos / "broken.mp4"], "clips", 0.0)


def test_an_answer_is_the_one_at_the_step_where_a_video_exits(frame_export: Export) -> None:
    manifest = frame_export.manifest
    logits = np.zeros((1, manifest.steps, len(manifest.labels)), dtype=np.float32)
    logits[0, -1, 2] = 9.0
    assert answers_at_exits(manifest, logits)["full"].tolist() == [2]


def test_a_clip_model_is_compressed_too(clip_export: Export, videos: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "clip", clip_export.manifest, clip_export.files)
    made = compress(bundle, sorted(videos.iterdir()), "clips", 0.0)
    assert made.bytes_after < made.bytes_before
    assert load_bundle(write_bundle(tmp_path / "small", made.manifest, made.files).path).manifest.compressed

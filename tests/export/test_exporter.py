from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from adafocus.bundle.store import load_bundle, write_bundle
from adafocus.export.errors import ExportError, UnavailableError
from adafocus.export.exporter import Export, Request, load_and_describe, stages
from adafocus.export.exporter import export as export_checkpoint
from tests.e2e.tiny import write_clip


def test_an_export_is_a_bundle_once_written(tmp_path: Path, frame_export: Export, clip_export: Export) -> None:
    for made in (frame_export, clip_export):
        write_bundle(tmp_path / made.manifest.name, made.manifest, made.files)
        bundle = load_bundle(tmp_path / made.manifest.name)
        assert bundle.manifest == made.manifest
        for graph in bundle.manifest.graphs:
            assert hashlib.sha256(made.files[graph.file]).hexdigest() == graph.sha256
    assert frame_export.manifest.licence == "CC0-1.0"
    assert clip_export.manifest.version == "2.1"
    assert clip_export.manifest.licence == "not stated by the checkpoint"


def test_stages_are_reported_and_a_real_video_is_verified_with(tmp_path: Path, checkpoints: Path) -> None:
    told: list[str] = []
    clip = write_clip(tmp_path / "grey.mp4", seconds=2)
    made = export_checkpoint(Request(checkpoints / "frame.pt", "toy", videos=[clip]), told.append)
    assert tuple(told) == stages(["onnx"])
    assert made.agreements["onnx"].videos == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"formats": ("onnx", "tflite")}, "format 'tflite' is not available; this version writes onnx, torchscript"),
        ({"precisions": ("bf16",)}, "precision 'bf16' is not available; this version writes fp32, fp16, int8"),
    ],
)
def test_what_this_version_does_not_write_is_said(
    checkpoints: Path, changes: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(UnavailableError, match=message):
        export_checkpoint(replace(Request(checkpoints / "frame.pt", "toy"), **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": "actnet_mbv2_p127"}, "no configuration 'actnet_mbv2_p127'; did you mean actnet_mbv2_p128 or"),
        ({"config": "actnet_mbv2_p128"}, "another configuration than the one asked for"),
        ({"checkpoint": Path("gone.pt")}, r"cannot read gone\.pt: No such file or directory"),
        ({"labels": Path("gone.txt")}, r"gone\.txt: cannot be read"),
        ({"calibration": Path("gone.json")}, r"gone\.json: cannot be read"),
    ],
)
def test_what_cannot_be_used_is_named(checkpoints: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        load_and_describe(replace(Request(checkpoints / "frame.pt", "toy"), **changes))  # type: ignore[arg-type]

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adafocus.bundle.store import load_bundle
from adafocus.cli.main import main
from adafocus.model.checkpoint import save_checkpoint
from tests.e2e.tiny import write_clip
from tests.export.models import CLIP, FRAME
from tests.model.factory import clip_model, frame_model

pytestmark = pytest.mark.usefixtures("exports_once")


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    save_checkpoint(folder / "frame.pt", frame_model(FRAME))
    save_checkpoint(folder / "clip.pt", clip_model(CLIP))
    return folder


def export(checkpoint: Path, out: Path, *options: str) -> int:
    return main(["export", "--checkpoint", str(checkpoint), "--out", str(out), *options])


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_checkpoint_becomes_a_bundle(tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\nd\ne\n")
    clip = write_clip(tmp_path / "grey.mp4", seconds=2)
    out = tmp_path / "my model"
    code = export(
        checkpoints / "frame.pt",
        out,
        *("--labels", str(labels), "--verify-with", str(clip), "--licence", "MIT", "--model-version", "3"),
    )
    told = capsys.readouterr().out
    assert code == 0
    assert f"{out}: written, my_model version 3" in told
    assert "Verified onnx on 3 videos of 4 steps: logits differ from torch by at most" in told
    manifest = load_bundle(out).manifest
    assert (manifest.name, manifest.labels[0], manifest.licence) == ("my_model", "a", "MIT")


def test_a_dry_run_does_everything_but_write(
    tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(checkpoints / "clip.pt", tmp_path / "clip", "--dry-run", "--json", "--name", "clippy") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] is False
    assert told["verified"]["onnx"]["logits_max"] < 1e-3
    assert told["manifest"]["name"] == "clippy"
    assert told["manifest"]["graphs"][0]["bytes"] > 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_bundle_is_refused_before_the_work(
    tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "holiday.jpg").write_text("mine")
    assert export(checkpoints / "frame.pt", tmp_path) == 1
    assert "is not empty and is not a bundle" in one_line(capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "onnx,tflite"], "format 'tflite' is not available; this version writes onnx, torchscript"),
        (["--precision", "bf16"], "precision 'bf16' is not available; this version writes fp32, fp16, int8"),
        (["--precision", "int8"], "what int8 loses is measured on labelled clips; name some with --data"),
        (["--precision", "int8", "--data", "gone"], "gone is not a folder; give one with a folder of videos per class"),
        (["--config", "actnet"], "there is no configuration 'actnet'; did you mean actnet_"),
        (["--labels", "gone.txt"], "gone.txt: cannot be read"),
        (["--calibration", "gone.json"], "gone.json: cannot be read"),
        (["--name", "no/slash"], "name: String should match pattern"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert export(checkpoints / "frame.pt", tmp_path / "out", *options) == 1
    assert message in one_line(capsys)
    assert list(tmp_path.iterdir()) == []


def test_a_precision_is_measured_on_labelled_clips(
    tmp_path: Path, checkpoints: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("bright\ndark\ngrey\nc\nd\n")
    data = tmp_path / "data"
    for name in ("bright", "dark", "grey", "c", "d"):
        (data / name).mkdir(parents=True)
        for number in range(9):
            clip = data / name / f"{number}.mp4"
            write_clip(clip, name if len(name) > 1 else "grey", seconds=0.4 + number / 10)
    options = ("--labels", str(labels), "--precision", "fp32,int8", "--data", str(data), "--allow-loss")
    assert export(checkpoints / "frame.pt", tmp_path / "out", *options) == 0
    told = capsys.readouterr().out
    assert "int8 on " in told
    assert "clips of data: fp32's answer for" in told
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "int8 on " in capsys.readouterr().out
    (reduced,) = load_bundle(tmp_path / "out").manifest.reduced
    assert reduced.precision == "int8"


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "notes.pt"
    text.write_text("notes")
    assert export(text, tmp_path / "out") == 1
    assert "notes.pt is not a checkpoint" in one_line(capsys)
    assert export(tmp_path / "gone.pt", tmp_path / "out") == 1
    assert "gone.pt: No such file or directory" in one_line(capsys)


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    assert "Example: adafocus export --checkpoint" in capsys.readouterr().out

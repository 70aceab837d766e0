"""Several labels end to end: a manifest with clips of two labels, trained, calibrated, exported and loaded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from adafocus.bundle.store import load_bundle
from adafocus.cli.main import main
from adafocus.training.evaluate.inference import load_trained
from adafocus.training.evaluate.operating_points import load_calibration
from tests.training.conftest import write_clip
from tests.training.test_commands import TOML

SIGMOID = TOML.replace("batch_size = 4", 'batch_size = 4\nloss = "sigmoid"').replace("holdout = 0.5", "holdout = 0.4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of one label or two, and a run on them."""
    root = tmp_path_factory.mktemp("labels")
    rows = []
    for index in range(12):
        labels = [["red"], ["blue"], ["red", "odd"], ["blue", "odd"]][index % 4]
        file = write_clip(root / f"{index}.mp4", red=220 if "red" in labels else 20, seed=index)
        rows.append({"file": file.name, "labels": labels})
    (root / "manifest.json").write_text(json.dumps({"name": "made", "items": rows}))
    (root / "recipe.toml").write_text(SIGMOID)
    run = ["train", "--data", str(root), "--config", str(root / "recipe.toml"), "--out", str(root / "run")]
    assert main([*run, "--seed", "3"]) == 0
    return root


def test_from_clips_to_a_bundle(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = folder / "run" / "last.pt"
    assert load_trained(checkpoint).recipe.optimiser.loss == "sigmoid"
    ask = ["--checkpoint", str(checkpoint), "--data", str(folder)]
    file = folder / "calibration.json"
    assert main(["calibrate", *ask, "--out", str(file), "--glance-exit"]) == 0
    calibration = load_calibration(file)
    assert calibration.criterion == "label_margin"
    assert calibration.label_thresholds is not None
    assert len(calibration.label_thresholds) == 3
    capsys.readouterr()
    assert main(["evaluate", *ask, "--calibration", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["multi_label"]
    assert report["label_f1"] is not None
    out = folder / "bundle"
    export = [
        "export",
        "--checkpoint",
        str(checkpoint),
        "--calibration",
        str(file),
        "--out",
        str(out),
        "--licence",
        "MIT",
    ]
    assert main(export) == 0
    manifest = load_bundle(out).manifest
    assert (manifest.task, manifest.exit_criterion) == ("multi_label", "label_margin")
    assert manifest.label_thresholds == pytest.approx(calibration.label_thresholds)
    assert np.isfinite(manifest.exit_rule.of_all_steps(np.zeros((1, 2, 3), np.float32))).all()


def test_a_promise_about_missed_labels_needs_the_criterion(folder: Path) -> None:
    ask = ["--checkpoint", str(folder / "run" / "last.pt"), "--data", str(folder), "--out", str(folder / "c.json")]
    assert main(["calibrate", *ask, "--criterion", "max_softmax", "--missed-labels", "0.1"]) != 0
    assert main(["calibrate", *ask, "--missed-labels", "0.2"]) == 0

"""Two processes on one machine continue a training that one began, and what they leave is continued by one."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.inference import load_trained
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.signals import Interrupted
from adafocus.training.run.train import train
from tests.conftest import ROOT
from tests.training.run.test_train import StopAfter
from tests.training.test_kill import TOML

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "adafocus.cli.main", "train"]


def test_two_processes_train_and_resume(clip_folder: Path, tmp_path: Path) -> None:
    """The first epoch is trained here: a launch takes three processes that import torch."""
    config, out = tmp_path / "tiny.toml", tmp_path / "run"
    config.write_text(TOML)
    data, recipe = list_clips(clip_folder), load_recipe(str(config))
    with pytest.raises(Interrupted):
        train(data, recipe, out, say=StopAfter(1))
    arguments = ["--data", str(clip_folder), "--config", str(config), "--out", str(out)]
    arguments += ["--cache", str(tmp_path / "cache"), "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, *LAUNCH, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("continuing after epoch 1 of 2") == 1
    assert [line[:7] for line in done.stderr.splitlines() if line.startswith("epoch ")] == ["epoch 2"]
    assert load_trained(out / "last.pt").labels == ("blue sky", "rød")
    told: list[str] = []
    train(data, recipe, out, say=told.append)
    assert "continuing after epoch 2 of 2" in told
    with (out / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]

"""Two processes on one machine train one model, and continue it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from adafocus.training.evaluate.inference import load_trained
from tests.conftest import ROOT
from tests.training.test_kill import TOML

LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "adafocus.cli.main", "train"]


def test_two_processes_train_and_resume(clip_folder: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "tiny.toml", tmp_path / "run"
    config.write_text(TOML.replace("epochs = 2", "epochs = 1"))
    arguments = ["--data", str(clip_folder), "--config", str(config), "--out", str(out)]
    arguments += ["--cache", str(tmp_path / "cache"), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, *LAUNCH, *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert done.stderr.count("continuing after epoch 1 of 1") == 1
    assert load_trained(out / "last.pt").labels == ("blue sky", "rød")

"""A training that is killed at any moment and started again ends with the weights of one that was not."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train
from tests.conftest import ROOT

CLIPS = 16  # two epochs of two batches of four
SAVES = 5  # the first epoch keeps last, best and state, the second one last and state at least

KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from adafocus.training.data import augment
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.train import train

left = int(sys.argv[4])
def dying(function):
    def call(*arguments):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments)
    return call

if sys.argv[3] == "clip":
    augment.Augment.with_points = dying(augment.Augment.with_points)
else:
    torch.save = dying(torch.save)
train(list_clips(Path(sys.argv[1])), load_recipe(sys.argv[5]), Path(sys.argv[2]))
"""

TOML = """
threads = 1
[model]
steps = 2
frame_size = 32
patch_size = 32
policy_channels = 4
policy_hidden = 8
mlp_width = 16
glance = { name = "resnet18", width = 0.125, depth = [1, 1] }
focus = { name = "resnet18", width = 0.125, depth = [1, 1] }
[data]
resize = 32
colour = 0.2
[optimiser]
epochs = 2
batch_size = 4
average = 0.5
[remedies]
"""


@pytest.mark.parametrize(("moment", "moments"), [("clip", CLIPS), ("save", SAVES)])
def test_killed_and_resumed_is_the_same(clip_folder: Path, tmp_path: Path, moment: str, moments: int) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(TOML)
    when = random.Random().randrange(moments)
    arguments = [str(clip_folder), str(tmp_path / "killed"), moment, str(when), str(config)]
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], cwd=ROOT, timeout=120, check=False)
    assert done.returncode == -signal.SIGKILL, f"at {moment} {when}"
    data, recipe = list_clips(clip_folder), load_recipe(str(config))
    resumed = train(data, recipe, tmp_path / "killed")
    whole = train(data, recipe, tmp_path / "whole")
    for name in ("last.pt", "best.pt"):
        ours = read_checkpoint(tmp_path / "killed" / name).state
        theirs = read_checkpoint(tmp_path / "whole" / name).state
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), f"at {moment} {when}"
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]

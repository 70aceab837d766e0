"""Training runs through, resumes to the same weights, and leaves what evaluation and calibration need."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import CalibrationError, DataError, DivergedError, ResumeError
from adafocus.training.evaluate.calibrate import calibrate
from adafocus.training.evaluate.inference import load_trained, predict_clips, predict_holdout
from adafocus.training.evaluate.monitor import validation_clips
from adafocus.training.evaluate.report import evaluate
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.run.signals import Interrupted
from adafocus.training.run.train import train
from tests.training.conftest import write_clip

Make = Callable[..., Recipe]


class StopAfter:
    """A listener that sends this process a signal once an epoch has been reported."""

    def __init__(self, epochs: int) -> None:
        self.left = epochs

    def __call__(self, line: str) -> None:
        self.left -= line.startswith("epoch ")
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(read_checkpoint(path).state)


def test_an_interrupted_run_resumes_to_the_same_weights(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    data = list_clips(clip_folder)
    recipe = tiny_recipe(optimiser={"epochs": 3, "batch_size": 4, "lr": 0.02, "average": 0.5})
    whole = train(data, recipe, tmp_path / "whole")
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match=r"SIGTERM.*continues"):
        train(data, recipe, tmp_path / "parts", say=StopAfter(1))
    assert signal.getsignal(signal.SIGTERM) is handler
    told: list[str] = []
    resumed = train(data, recipe, tmp_path / "parts", cache=tmp_path / "cache", say=told.append)
    assert "continuing after epoch 1 of 3" in told
    ours, theirs = weights(resumed.checkpoint), weights(whole.checkpoint)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    with (tmp_path / "parts" / "log.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def test_a_finished_run_is_left_alone_and_another_is_refused(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    data = list_clips(clip_folder)
    before = weights(train(data, tiny_recipe(), tmp_path / "run").checkpoint)
    after = weights(train(data, tiny_recipe(), tmp_path / "run").checkpoint)
    assert all(torch.equal(before[key], after[key]) for key in before)
    with pytest.raises(ResumeError, match="another recipe"):
        train(data, tiny_recipe(seed=1), tmp_path / "run")
    (tmp_path / "run" / "state.pt").write_bytes(b"cut")
    with pytest.raises(ResumeError, match="cannot be read"):
        train(data, tiny_recipe(), tmp_path / "run")


def test_broken_clips_and_a_class_of_one_do_not_stop_training(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(clip_folder, folder)
    (folder / "only one").mkdir()
    shutil.copy(clip_folder / "rød" / "klipp 0.mp4", folder / "only one" / "single clip.mp4")
    (folder / "rød" / "ødelagt 1.mp4").write_bytes(b"\0" * 100)
    (folder / "rød" / "ødelagt 2.mp4").write_bytes(b"")
    told: list[str] = []
    outcome = train(list_clips(folder), tiny_recipe(), tmp_path / "run", say=told.append)
    assert {broken.path.name for broken in outcome.broken} == {"ødelagt 1.mp4", "ødelagt 2.mp4"}
    assert sum("ødelagt" in line for line in told) == 2
    assert any("skipped 2 that cannot be decoded" in line and "only one 1" in line for line in told)
    assert "warning: 1 class has a single training clip: 'only one'" in told
    assert any("have no holdout clip to evaluate: 'only one'" in line for line in told)


def test_what_training_leaves_can_be_judged_and_calibrated(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    data = list_clips(clip_folder)
    paths = [train(data, tiny_recipe(holdout=0.5, fold=f), tmp_path / str(f)).checkpoint for f in (0, 1)]
    models = [load_trained(path) for path in paths]
    assert models[0].learned_from == models[1].held_aside
    predictions = predict_holdout(models, data)
    assert predictions.logits.shape == (10, 2, 2)
    points = calibrate(predictions.logits, predictions.labels, models[0].gflops_per_step)
    report = evaluate(predictions.logits, predictions.labels, data.labels, models[0].gflops_per_step, points)
    assert report.clips == 10
    assert report.step_accuracy[-1] == report.accuracy
    full = {point.name: point for point in report.points}["full"]
    assert full.accuracy == report.accuracy
    assert full.gflops == pytest.approx(report.gflops_full)
    metadata = read_checkpoint(paths[0]).metadata
    assert metadata["sampling"]["first_frame"] == 3
    assert metadata["geometry"] == {"resize": 32, "crop": 32, "fit": "crop"}
    assert metadata["provenance"]["seed"] == 0
    with pytest.raises(CalibrationError, match="two checkpoints"):
        predict_holdout([models[0], models[0]], data)
    other = load_trained(train(data, tiny_recipe(holdout=0.0), tmp_path / "all").checkpoint)
    with pytest.raises(CalibrationError, match="has no holdout among these clips"):
        predict_holdout([other], data)


def test_averaged_weights_are_what_is_judged(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    data = list_clips(clip_folder)
    trained = load_trained(train(data, tiny_recipe(), tmp_path / "run").checkpoint)
    again = predict_clips(trained, data.only(clip for clip in data.clips if clip.identity in trained.held_aside))
    with (tmp_path / "run" / "log.csv").open() as file:
        logged = list(csv.DictReader(file))[-1]
    accuracy = np.mean(again.logits[:, -1].argmax(axis=1) == again.labels)
    assert float(logged["holdout_accuracy"]) == pytest.approx(accuracy)


def test_a_file_that_is_no_training_is_named(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "x.pt")
    with pytest.raises(DataError, match=r"x\.pt"):
        load_trained(tmp_path / "x.pt")


def test_clips_with_several_labels_learn_and_are_judged_by_average_precision(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    rows = [
        f"{clip.path},{'rød;moving' if clip.label else 'blue sky;moving'}" for clip in list_clips(clip_folder).clips
    ]
    (tmp_path / "manifest.csv").write_text("\n".join(["file,labels", *rows]), encoding="utf-8")
    data = list_clips(tmp_path)
    outcome = train(data, tiny_recipe(holdout=0.5), tmp_path / "run")
    assert 0 < outcome.history[-1]["holdout_map"] <= 1
    trained = load_trained(outcome.checkpoint)
    predictions = predict_holdout([trained], data)
    assert predictions.labels.shape == (5, 3)
    points = calibrate(predictions.logits, predictions.labels, trained.gflops_per_step)
    report = evaluate(predictions.logits, predictions.labels, data.labels, trained.gflops_per_step, points)
    assert report.mean_average_precision["present"] == pytest.approx(outcome.history[-1]["holdout_map"])


def test_a_published_recipe_learns_from_the_authors_lists(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    videos = [clip.path for clip in list_clips(clip_folder).clips]
    entries = [f"clip {index},12,{50 + index % 2},-1" for index in range(len(videos))]
    for index, path in enumerate(videos):
        shutil.copy(path, tmp_path / f"clip {index}.mp4")
    (tmp_path / "actnet_train_split.txt").write_text("\n".join([*entries[:-2], "gone,12,7"]))
    (tmp_path / "actnet_val_split.txt").write_text("\n".join([*entries[-2:], "gone too,12,8"]))
    network = "name = 'resnet18', width = 0.125, depth = [1, 1]"
    (tmp_path / "small.toml").write_text(
        "inherits = 'actnet_mbv2_p96'\nthreads = 1\n[model]\nsteps = 2\nframe_size = 32\npatch_size = 32\n"
        f"policy_hidden = 8\nmlp_width = 8\nglance = {{ {network} }}\nfocus = {{ {network} }}\n"
        "[data]\nresize = 36\n[optimiser]\nepochs = 1\nbatch_size = 4\n"
    )
    recipe = load_recipe(str(tmp_path / "small.toml"))
    told: list[str] = []
    data, watched = list_clips(tmp_path, "train", recipe.lists), validation_clips(tmp_path, recipe)
    outcome = train(data, recipe, tmp_path / "run", say=told.append, validation=watched)
    assert [broken.path.name for broken in outcome.broken] == ["gone", "gone too"]
    assert any("200 classes of 0 to 4" in line for line in told)
    assert "2 clips of split val are evaluated after each epoch" in told
    assert 0 < outcome.history[-1]["validation_map"] <= 1
    assert (tmp_path / "run" / "best.pt").is_file()
    assert any("198 classes have no training clip" in line for line in told)
    assert len(load_trained(outcome.checkpoint).labels) == 200


def test_other_labels_are_another_training(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    data = list_clips(clip_folder)
    train(data, tiny_recipe(), tmp_path / "run")
    swapped = data.only(replace(clip, label=1 - clip.label) for clip in data.clips)
    for other in (swapped, replace(data, labels=("blue sky", "red"))):
        with pytest.raises(ResumeError, match="another"):
            train(other, tiny_recipe(), tmp_path / "run")


def test_the_last_clip_of_a_class_is_learned_from(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    """Whichever of the two is held aside: the other is broken."""
    folder, told = tmp_path / "data", list[str]()
    shutil.copytree(clip_folder, folder)
    for number in range(6):
        place = folder / f"rare {number}"
        place.mkdir()
        write_clip(place / "good.mp4", red=40 * number, seed=50 + number)
        (place / "broken.mp4").write_bytes(bytes([number]) * 100)
    train(list_clips(folder), tiny_recipe(holdout=0.5), tmp_path / "run", say=told.append)
    assert not any("no training clip" in line for line in told)
    taken = [line for line in told if "which was held out: its class has no other training clip" in line]
    assert taken
    kept = read_checkpoint(tmp_path / "run" / "last.pt").metadata
    assert not set(kept["learned_from"]) & set(kept["held_aside"])


def test_a_loss_that_is_no_number_ends_the_run(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    wild = tiny_recipe(optimiser={"epochs": 60, "batch_size": 4, "lr": 100.0, "clip_gradient": 0.0})
    with pytest.raises(DivergedError, match=r"the loss is (nan|inf) in step \d+ of epoch \d+; try a smaller"):
        train(list_clips(clip_folder), wild, tmp_path / "run")

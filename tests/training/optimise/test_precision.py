"""A precision left to the machine is chosen once, recorded, and kept when the run goes on elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adafocus.model.checkpoint import read_checkpoint
from adafocus.training.data.manifests import list_clips
from adafocus.training.optimise.precision import fastest_precision
from adafocus.training.recipe import Recipe
from adafocus.training.run.signals import Interrupted
from adafocus.training.run.train import train
from tests.training.run.test_train import StopAfter, weights


def processor(monkeypatch: pytest.MonkeyPatch, **able: bool) -> None:
    """Let the processor have these instructions."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bw": True, **able})


@pytest.mark.parametrize(
    ("able", "expected"), [({}, "fp32"), ({"avx512_bf16": True}, "bf16"), ({"amx_bf16": True}, "bf16")]
)
def test_a_processor_takes_bf16_only_if_it_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], expected: str
) -> None:
    processor(monkeypatch, **able)
    assert fastest_precision(torch.device("cpu")) == expected


@pytest.mark.parametrize(
    ("bf16", "capability", "expected"),
    [(True, (8, 0), "bf16"), (False, (7, 5), "fp16"), (False, (7, 0), "fp16"), (False, (6, 1), "fp32")],
)
def test_a_gpu_takes_what_its_tensor_cores_can(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16 or including_emulation)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fastest_precision(torch.device("cuda", 0)) == expected


def test_a_run_goes_on_in_the_precision_it_began_in(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, told = list_clips(clip_folder), list[str]()

    def recipe(precision: str) -> Recipe:
        return tiny_recipe(optimiser={"epochs": 2, "batch_size": 4, "lr": 0.02, "precision": precision})

    def say(line: str) -> None:
        told.append(line)
        stop(line)

    processor(monkeypatch, avx512_bf16=True)
    stop = StopAfter(1)
    with pytest.raises(Interrupted):
        train(data, recipe("auto"), tmp_path / "auto", say=say)
    assert "precision bf16: the fastest here, kept for the whole run" in told
    processor(monkeypatch)
    outcome = train(data, recipe("auto"), tmp_path / "auto", say=told.append)
    assert "precision bf16: as the run began; this machine would take fp32" in told
    assert read_checkpoint(outcome.checkpoint).metadata["precision"] == "bf16"
    ours = weights(outcome.checkpoint)
    theirs = weights(train(data, recipe("bf16"), tmp_path / "bf16").checkpoint)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)

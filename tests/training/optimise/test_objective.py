"""Half precision keeps the policy whole, and a machine that chooses it does so once; initial weights are local."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from adafocus.model.adafocus import AdaFocus
from adafocus.model.backbones import build_backbone
from adafocus.model.checkpoint import read_checkpoint
from adafocus.model.names import backbone_names
from adafocus.training.data.manifests import list_clips
from adafocus.training.errors import DataError, ResumeError
from adafocus.training.optimise.initial_weights import InitialWeights
from adafocus.training.optimise.losses import CrossEntropy, Remedies
from adafocus.training.optimise.objective import Objective, fastest_precision, use_half_precision
from adafocus.training.recipe import Precision, Recipe
from adafocus.training.run.signals import Interrupted
from adafocus.training.run.train import train
from tests.training.run.test_train import StopAfter, weights

Make = Callable[..., Recipe]


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_stays_inside_the_networks(precision: Precision, tiny_recipe: Make) -> None:
    torch.manual_seed(0)
    model = AdaFocus(tiny_recipe(model={**tiny_recipe().model, "dropout": 0.0}).model_config(3))
    frames, labels, centres = torch.randn(4, 2, 3, 32, 32), torch.tensor([0, 1, 2, 0]), torch.rand(4, 2, 2)
    objective = Objective(model, Remedies(), CrossEntropy())
    whole = objective(frames, labels, centres).total.item()
    use_half_precision(model, precision, "cpu")
    seen: dict[str, torch.dtype] = {}
    model.policy.register_forward_hook(lambda _, given, made: seen.update(policy=made.dtype))
    first = next(module for module in model.glance.modules() if isinstance(module, torch.nn.Conv2d))
    first.register_forward_hook(lambda _, given, made: seen.update(glance=made.dtype))
    half = objective(frames, labels, centres).total
    assert seen == {"policy": torch.float32, "glance": torch.bfloat16 if precision == "bf16" else torch.float16}
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(whole, rel=0.05)
    assert half.item() != whole
    half.backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())
    model.eval()
    objective(frames, labels, centres)
    assert seen["glance"] == torch.float32


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_half_precision_learns_and_resumes(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make, precision: str
) -> None:
    data = list_clips(clip_folder)
    recipe = tiny_recipe(optimiser={"epochs": 2, "batch_size": 4, "lr": 0.02, "precision": precision})
    whole = train(data, recipe, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(data, recipe, tmp_path / "parts", say=StopAfter(1))
    resumed = train(data, recipe, tmp_path / "parts")
    ours, theirs = weights(resumed.checkpoint), weights(whole.checkpoint)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_initial_weights_are_loaded_and_are_part_of_the_run(
    clip_folder: Path, tmp_path: Path, tiny_recipe: Make
) -> None:
    recipe = tiny_recipe()
    config = recipe.model_config(2)
    network = build_backbone(config.focus)
    own = network.state_dict()
    torch.save({name: own[key] for key, name in backbone_names(network, "torchvision").items()}, tmp_path / "net.pth")
    initial = InitialWeights(focus=tmp_path / "net.pth")
    model = AdaFocus(config)
    initial.load(model)
    assert all(torch.equal(value, own[key]) for key, value in model.focus.state_dict().items())
    data = list_clips(clip_folder)
    train(data, recipe, tmp_path / "run", initial=initial)
    with pytest.raises(ResumeError, match="another"):
        train(data, recipe, tmp_path / "run")
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(DataError, match="the glance network cannot start from"):
        InitialWeights(glance=tmp_path / "wrong.pth").load(model)


def test_a_device_that_is_not_there_is_named(clip_folder: Path, tmp_path: Path, tiny_recipe: Make) -> None:
    with pytest.raises(DataError, match="no device 'nonsense'"):
        train(list_clips(clip_folder), tiny_recipe(), tmp_path / "run", device="nonsense")
    with pytest.raises(DataError, match="not tested"):
        train(list_clips(clip_folder), tiny_recipe(), tmp_path / "run", device="meta")


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

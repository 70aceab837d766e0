from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from adafocus.model import AdaFocus, AdaFocusTSM, ModelConfig, build
from adafocus.model.checkpoint import load_authors, load_checkpoint, read_checkpoint, save_checkpoint
from adafocus.model.names import clip_names, frame_names
from adafocus.model.weight_files import CheckpointError
from tests.model.factory import SMALL_CLIP, SMALL_FRAME, SMALL_RESIZED, clip, clip_model, frame_model

Model = AdaFocus | AdaFocusTSM
State = dict[str, Tensor]


def authors_state(model: Model) -> State:
    """The model's weights under the authors' names, with the dead heads of their frame models."""
    names = frame_names(model) if isinstance(model, AdaFocus) else clip_names(model)
    state: State = {}
    for key, value in model.state_dict().items():
        parts = value.unbind(0) if len(names[key]) > 1 else (value,)
        state |= {name: part.clone() for name, part in zip(names[key], parts, strict=True)}
    if isinstance(model, AdaFocus):
        state |= {"global_CNN.classifier.weight": torch.zeros(2, 2), "local_CNN.fc.bias": torch.zeros(2)}
    return state


def write(path: Path, state: State, prefix: str = "module.") -> Path:
    torch.save({"state_dict": {prefix + key: value for key, value in state.items()}}, path)
    return path


def assert_same(ours: Model, theirs: Model) -> None:
    expected = theirs.state_dict()
    assert ours.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in ours.state_dict().items())
    assert not ours.training


@pytest.mark.parametrize("prefix", ["module.", ""])
@pytest.mark.parametrize("config", [SMALL_FRAME, SMALL_RESIZED], ids=["mobilenet_v2", "resnet"])
def test_the_authors_frame_model_loads(tmp_path: Path, config: ModelConfig, prefix: str) -> None:
    model = frame_model(config)
    path = write(tmp_path / "ckpt.pth.tar", authors_state(model), prefix)
    loaded = load_authors(path, config)
    assert_same(loaded, model)
    assert all(parameter.requires_grad for parameter in loaded.parameters())
    with torch.no_grad():
        assert torch.equal(loaded(clip(2, 4)).step_logits, model(clip(2, 4)).step_logits)


def test_the_authors_clip_model_loads(tmp_path: Path) -> None:
    model = clip_model()
    path = tmp_path / "ckpt.pth.tar"
    content = {"epoch": 3, "arch": "x", "state_dict": authors_state(model), "best_prec1": 4.5}
    torch.save(content, path)
    assert_same(load_authors(path, SMALL_CLIP), model)


def test_a_bare_state_dict_loads(tmp_path: Path) -> None:
    model = frame_model()
    torch.save(authors_state(model), tmp_path / "bare.pth")
    assert_same(load_authors(tmp_path / "bare.pth", SMALL_FRAME), model)


def test_published_names_are_the_authors(tmp_path: Path) -> None:
    """A few that are easy to get wrong; the parity tests load whole files."""
    clip_keys = {name for names in clip_names(clip_model()).values() for name in names}
    assert "global_CNN.base_model.features.3.conv.0.net.weight" in clip_keys
    assert "global_CNN.base_model.features.2.conv.0.weight" in clip_keys
    assert "local_CNN.base_model.layer1.0.conv1.net.weight" in clip_keys
    assert "policy_stn.10.weight" in clip_keys
    frame_keys = {name for names in frame_names(frame_model()).values() for name in names}
    assert "policy_stn.gru.weight_ih_l0" in frame_keys
    assert "classifier.classifiers.3.1.bias" in frame_keys
    assert not any(".net." in name for name in frame_keys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("policy_stn.fc.0.bias"), r"lacks 'policy_stn.fc.0.bias'$"),
        (lambda s: s.pop("classifier.classifiers.2.1.weight"), "lacks 'classifier.classifiers.2.1.weight'"),
        (lambda s: s.update({"policy_stn.extra": torch.zeros(1)}), "holds unexpected 'policy_stn.extra'"),
        (lambda s: s.update({"local_CNN.fc": torch.zeros(1)}), "holds unexpected 'local_CNN.fc'"),
        (
            lambda s: s.update({"policy_stn.fc.0.weight": torch.zeros(2, 3)}),
            r"'policy_stn.fc.0.weight' has shape \(2, 3\), the model needs \(2, 16\)",
        ),
        (
            lambda s: s.update({"classifier.classifiers.1.1.weight": torch.zeros(6, 24)}),
            r"'classifier.classifiers.1.1.weight' has shape \(6, 24\), the model needs \(5, 24\)",
        ),
        (
            lambda s: s.update({"policy_stn.fc.0.bias": torch.zeros(2, dtype=torch.int64)}),
            r"'policy_stn.fc.0.bias' is torch.int64, the model needs torch.float32",
        ),
    ],
)
def test_whatever_does_not_fit_is_named(tmp_path: Path, change: Callable[[State], object], message: str) -> None:
    state = authors_state(frame_model())
    change(state)
    path = write(tmp_path / "ckpt.pth.tar", state)
    with pytest.raises(CheckpointError, match=message) as failure:
        load_authors(path, SMALL_FRAME)
    assert "\n" not in str(failure.value)


def test_the_clip_model_has_no_dead_weights(tmp_path: Path) -> None:
    state = authors_state(clip_model()) | {"local_CNN.fc.bias": torch.zeros(2)}
    with pytest.raises(CheckpointError, match=r"unexpected 'local_CNN.fc.bias'"):
        load_authors(write(tmp_path / "ckpt.pth.tar", state), SMALL_CLIP)


def test_another_configuration_does_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "ckpt.pth.tar", authors_state(frame_model()))
    with pytest.raises(CheckpointError, match=r"lacks 'classifier.classifiers.4.1.bias' and 1 more"):
        load_authors(path, replace(SMALL_FRAME, steps=5))
    with pytest.raises(CheckpointError, match="does not say what it is; name its configuration"):
        read_checkpoint(path).build()


class Harmful:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("harmed",)


def test_code_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Harmful()}, tmp_path / "modern.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps({"state_dict": Harmful()}))
    for name in ("modern.pth", "plain.pth"):
        with pytest.raises(CheckpointError, match=f"{name} is not a checkpoint of plain tensors") as failure:
            load_authors(tmp_path / name, SMALL_FRAME)
        assert "\n" not in str(failure.value)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04" + bytes(200), bytes(1000), b"\x80\x02."])
def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"file.pth is not a checkpoint"):
        read_checkpoint(path)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot read .*absent.pth: No such file"):
        read_checkpoint(tmp_path / "absent.pth")
    with pytest.raises(CheckpointError, match="cannot read"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds a list"),
        ({}, "holds no state_dict"),
        ({"state_dict": {}}, "holds no state_dict"),
        ({"state_dict": {"a": 3}}, "'a' is a int"),
        ({"format": "adafocus", "version": 2}, "version 2; this code reads 1"),
        ({"format": "adafocus", "version": 1}, "lacks its config"),
        ({"format": "adafocus", "version": 1, "config": {"num_classes": 0}, "metadata": {}}, "num_classes is 0"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "file.pth")
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(tmp_path / "file.pth")


@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_our_own_format_survives(tmp_path: Path, kind: str) -> None:
    model = frame_model() if kind == "frame" else clip_model()
    metadata = {"labels": ["a", "b"], "geometry": {"resize": 72, "crop": 64}, "epoch": 3, "best": None}
    path = tmp_path / "model.pt"
    save_checkpoint(path, model, **metadata)
    loaded, read = load_checkpoint(path)
    assert_same(loaded, model)
    assert read == metadata
    assert loaded.config == model.config
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]
    checkpoint = read_checkpoint(path)
    assert checkpoint.format == "adafocus"
    with pytest.raises(CheckpointError, match="another configuration"):
        checkpoint.build(replace(model.config, num_classes=7))
    with pytest.raises(CheckpointError, match="one of our own"):
        load_authors(path, model.config)


def test_metadata_that_needs_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"'labels.x' is a PosixPath"):
        save_checkpoint(tmp_path / "model.pt", frame_model(), labels={"x": [Path("a")]})
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    path.write_text("before")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, frame_model())
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]
    assert path.read_text() == "before"


def test_every_weight_of_ours_has_a_name_of_theirs() -> None:
    for config in (SMALL_FRAME, SMALL_RESIZED, SMALL_CLIP, replace(SMALL_CLIP, clip_policy_widths=(4, 3, 2))):
        model = build(config)
        names = frame_names(model) if isinstance(model, AdaFocus) else clip_names(model)
        assert names.keys() == model.state_dict().keys()
        flat = [name for group in names.values() for name in group]
        assert len(flat) == len(set(flat))

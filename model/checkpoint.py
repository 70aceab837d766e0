"""Checkpoints: the authors' released files, ImageNet weights, and our own format.

Files are read with ``weights_only=True``: tensors and plain values, never code. A key that does not fit is an error
that names the key as in the file; nothing is skipped silently except the unused weights listed in ``model.names``.

Our format is ``{"format": "adafocus", "version": 1, "config": ..., "state_dict": ..., "metadata": {...}}``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from model import build
from model.adafocus import AdaFocus
from model.backbones import Backbone, MobileNetV2
from model.config import ModelConfig
from model.names import DEAD_AUTHORS, DEAD_IMAGENET, Dialect, backbone_names, clip_names, frame_names
from model.tsm import AdaFocusTSM

FORMAT = "adafocus"
VERSION = 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line and names the file or the key."""


@dataclass(frozen=True)
class Checkpoint:
    """A file that was read, its weights still under the names of the file.

    Attributes:
        path: where it came from.
        format: ``adafocus`` (ours) or ``authors``.
        state: weights, a ``module.`` prefix removed.
        config: the configuration in the file; None in the authors' files, which hold none.
        metadata: what ``save_checkpoint`` was given beside the model (labels, geometry, ...).
    """

    path: Path
    format: Literal["adafocus", "authors"]
    state: Mapping[str, Tensor]
    config: ModelConfig | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def build(self, config: ModelConfig | None = None) -> AdaFocus | AdaFocusTSM:
        """The model with these weights, in evaluation mode.

        Args:
            config: needed for the authors' files; for our own it may be left out, and must agree if it is given.

        Raises:
            CheckpointError: no configuration, another one than the file's, or weights that do not fit it.
        """
        if self.config is not None and config not in (None, self.config):
            raise CheckpointError(f"{self.path.name} holds another configuration than the one asked for")
        wanted = self.config or config
        if wanted is None:
            raise CheckpointError(f"{self.path.name} does not say what it is; name its configuration")
        with torch.device("meta"):
            model = build(wanted)
        if self.format == "adafocus":
            names: dict[str, tuple[str, ...]] = {key: (key,) for key in model.state_dict()}
            dead: tuple[str, ...] = ()
        else:
            names = frame_names(model) if isinstance(model, AdaFocus) else clip_names(model)
            dead = DEAD_AUTHORS if isinstance(model, AdaFocus) else ()
        state = _fit(self.path, model, self.state, names, dead)
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval()


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint, ours or the authors'.

    Raises:
        CheckpointError: not a checkpoint, or one that only arbitrary code could read.
    """
    path = Path(path)
    content = _load(path)
    if content.get("format") == FORMAT:
        if content.get("version") != VERSION:
            raise CheckpointError(f"{path.name} has version {content.get('version')!r}; this code reads {VERSION}")
        config, metadata = content.get("config"), content.get("metadata")
        if not isinstance(config, dict) or not isinstance(metadata, dict):
            raise CheckpointError(f"{path.name} lacks its config or metadata")
        try:
            parsed = ModelConfig.from_dict(config)
        except ValueError as error:
            raise CheckpointError(f"{path.name}: {error}") from error
        return Checkpoint(path, "adafocus", _tensors(path, content.get("state_dict")), parsed, metadata)
    return Checkpoint(path, "authors", _tensors(path, content.get("state_dict", content)))


def load_authors(path: Path | str, config: ModelConfig) -> AdaFocus | AdaFocusTSM:
    """The model of a released file, unchanged as the authors wrote it, in evaluation mode.

    Raises:
        CheckpointError: a missing, unexpected or mis-shaped key; a file of ours; a file that cannot be read.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.format != "authors":
        raise CheckpointError(f"{checkpoint.path.name} is one of our own checkpoints, not one of the authors'")
    return checkpoint.build(config)


def load_checkpoint(path: Path | str) -> tuple[AdaFocus | AdaFocusTSM, Mapping[str, Any]]:
    """The model and the metadata of one of our own files, in evaluation mode.

    Raises:
        CheckpointError: not one of ours, or damaged.
    """
    checkpoint = read_checkpoint(path)
    return checkpoint.build(), checkpoint.metadata


def save_checkpoint(path: Path | str, model: AdaFocus | AdaFocusTSM, **metadata: Any) -> None:
    """Write a model in our format: to a temporary sibling first, so that the file is whole or not there.

    Args:
        path: the file to write or replace.
        model: what to save.
        metadata: plain values (numbers, strings, lists, dicts, tensors, None) to keep beside the weights.

    Raises:
        CheckpointError: metadata that could not be read back without running code.
    """
    path = Path(path)
    for name, value in metadata.items():
        _require_plain(name, value)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": model.config.to_dict(),
        "state_dict": model.state_dict(),
        "metadata": metadata,
    }
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise


def load_backbone_imagenet(backbone: Backbone, path: Path | str) -> None:
    """Fill a backbone with ImageNet weights from a local file; the ImageNet head is left out.

    Reads torchvision's ``state_dict`` format, and MobileNetV2 in the naming of the authors' initial weights too.

    Raises:
        CheckpointError: a missing, unexpected or mis-shaped key (a width or depth that is not the published one).
    """
    path = Path(path)
    content = _load(path)
    state = _tensors(path, content.get("state_dict", content))
    flat = isinstance(backbone, MobileNetV2) and "features.1.conv.0.weight" in state
    dialect: Dialect = "authors" if flat else "torchvision"
    names = {key: (name,) for key, name in backbone_names(backbone, dialect).items()}
    own = backbone.state_dict()
    for key, (name,) in names.items():
        if name.endswith("num_batches_tracked"):  # files older than this counter lack it
            state.setdefault(name, own[key].new_zeros(()))
    backbone.load_state_dict(_fit(path, backbone, state, names, DEAD_IMAGENET), strict=True)


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # damaged files make the reader raise many kinds of errors
        raise CheckpointError(f"{path.name} is not a checkpoint of plain tensors; nothing else is ever read") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}; a checkpoint is a dictionary")
    return content


def _tensors(path: Path, state: object) -> dict[str, Tensor]:
    """The state of a file with the prefix of a parallel wrapper removed."""
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path.name} holds no state_dict")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path.name}: {key!r} is a {type(value).__name__}; weights are tensors by name")
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def _fit(
    path: Path,
    module: nn.Module,
    state: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, ...]],
    dead: tuple[str, ...],
) -> dict[str, Tensor]:
    """The file's weights under our names, every one of them accounted for."""
    expected = {name for group in names.values() for name in group}
    _complain(path, "lacks", expected - state.keys())
    _complain(path, "holds unexpected", {key for key in state.keys() - expected if not key.startswith(dead)})
    fitted = {}
    for ours, wanted in module.state_dict().items():
        group = names[ours]
        shape = wanted.shape if len(group) == 1 else wanted.shape[1:]
        for name in group:
            if state[name].shape != shape:
                have = tuple(state[name].shape)
                raise CheckpointError(f"{path.name}: {name!r} has shape {have}, the model needs {tuple(shape)}")
            if state[name].is_floating_point() != wanted.is_floating_point():
                raise CheckpointError(f"{path.name}: {name!r} is {state[name].dtype}, the model needs {wanted.dtype}")
        value = state[group[0]] if len(group) == 1 else torch.stack([state[name] for name in group])
        fitted[ours] = value.to(wanted.dtype)
    return fitted


def _complain(path: Path, what: str, keys: Collection[str]) -> None:
    if keys:
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        raise CheckpointError(f"{path.name} {what} {min(keys)!r}{more}")


def _require_plain(name: str, value: object) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _require_plain(f"{name}.{key}", key)
            _require_plain(f"{name}.{key}", item)
    elif isinstance(value, list | tuple):
        for item in value:
            _require_plain(name, item)
    elif type(value) not in (str, int, float, bool, type(None)) and not isinstance(value, Tensor):
        raise CheckpointError(f"metadata {name!r} is a {type(value).__name__}; permitted: plain values and tensors")

"""Checkpoints: the authors' released files and our own format.

Weights that do not fit raise an error that names the key as the file spells it. Nothing is skipped silently except the
unused weights listed in ``model.names``.

Our format is ``{"format": "adafocus", "version": 1, "config": ..., "state_dict": ..., "metadata": {...}}``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from adafocus.model import VideoModel, build
from adafocus.model.config import ModelConfig
from adafocus.model.weight_files import CheckpointError, fit, read_plain, tensors_of

FORMAT = "adafocus"
VERSION = 1


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

    def build(self, config: ModelConfig | None = None) -> VideoModel:
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
            try:
                names = dict(model.released_names())
            except ValueError as error:
                raise CheckpointError(f"{self.path.name} cannot hold this model: {error}") from error
            dead = model.unused_in_released
        state = fit(self.path, model, self.state, names, dead)
        model.load_state_dict(state, strict=True, assign=True)
        return model.eval()


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint, ours or the authors'.

    Raises:
        CheckpointError: not a checkpoint, or one that only arbitrary code could read.
    """
    path = Path(path)
    content = read_plain(path)
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
        return Checkpoint(path, "adafocus", tensors_of(path, content.get("state_dict")), parsed, metadata)
    return Checkpoint(path, "authors", tensors_of(path, content.get("state_dict", content)))


def load_authors(path: Path | str, config: ModelConfig) -> VideoModel:
    """The model of a released file, unchanged as the authors wrote it, in evaluation mode.

    Raises:
        CheckpointError: a missing, unexpected or mis-shaped key; a file of ours; a file that cannot be read.
    """
    checkpoint = read_checkpoint(path)
    if checkpoint.format != "authors":
        raise CheckpointError(f"{checkpoint.path.name} is one of our own checkpoints, not one of the authors'")
    return checkpoint.build(config)


def load_checkpoint(path: Path | str) -> tuple[VideoModel, Mapping[str, Any]]:
    """The model and the metadata of one of our own files, in evaluation mode.

    Raises:
        CheckpointError: not one of ours, or damaged.
    """
    checkpoint = read_checkpoint(path)
    return checkpoint.build(), checkpoint.metadata


def save_checkpoint(path: Path | str, model: VideoModel, **metadata: Any) -> None:
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

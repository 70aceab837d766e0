"""Files of weights, read without running code: torch's format as tensors and plain values only, and safetensors."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class CheckpointError(ValueError):
    """A checkpoint or a file of weights that cannot be used; the message is one line and names the file or the key."""


def read_plain(path: Path) -> dict[str, Any]:
    """The content of a file; of a ``.safetensors`` file its tensors by name.

    Raises:
        CheckpointError: the file cannot be read, holds more than tensors and plain values, or is no dictionary.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # damaged files make the reader raise many kinds of errors
        raise CheckpointError(f"{path.name} is not a checkpoint of plain tensors; nothing else is ever read") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} holds a {type(content).__name__}; a checkpoint is a dictionary")
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(f"{path.name} needs the package safetensors: pip install safetensors") from error
    try:
        return dict(load_file(path))
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path.name} is not a safetensors file: {error}") from error


def tensors_of(path: Path, state: object) -> dict[str, Tensor]:
    """The weights of a file by name, without the prefix that a parallel wrapper adds.

    Raises:
        CheckpointError: there are none, or a value is no tensor.
    """
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path.name} holds no state_dict")
    for key, value in state.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path.name}: {key!r} is a {type(value).__name__}; weights are tensors by name")
    if all(key.startswith("module.") for key in state):
        return {key.removeprefix("module."): value for key, value in state.items()}
    return dict(state)


def fit(
    path: Path,
    module: nn.Module,
    state: Mapping[str, Tensor],
    names: Mapping[str, tuple[str, ...]],
    dead: tuple[str, ...],
) -> dict[str, Tensor]:
    """The file's weights under our names, every one of them accounted for.

    Args:
        path: of the file, for messages.
        module: what they are for.
        state: the file's weights by the file's names.
        names: our key to the file's key, or to several whose tensors are stacked.
        dead: how keys begin that the file may hold and the module has no use for.

    Raises:
        CheckpointError: a key that is missing, unexpected, or of another shape or kind of number.
    """
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

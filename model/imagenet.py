"""ImageNet weights for a backbone, from the files that are in circulation.

This module reads torchvision's files, timm's (MobileNetV2 and ResNet), the initial weights of the released AdaFocusV2
(MobileNetV2, and a ResNet-50 for 96 pixels, which has torchvision's names), and EfficientNet-Lite0 as ported from
TensorFlow, each as torch's ``.pth`` or as ``.safetensors``. The classification head is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adafocus.model.backbones import Backbone, EfficientNetLite0, InvertedResidualNetwork, MobileNetV2
from adafocus.model.config import DEFAULT_DEPTH
from adafocus.model.names import DEAD_IMAGENET, Dialect, backbone_names
from adafocus.model.weight_files import CheckpointError, fit, read_plain, tensors_of

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

TENSORFLOW_MEAN, TENSORFLOW_STD = 127 / 255, 128 / 255
"""Normalisation of all colours that EfficientNet-Lite was trained with, in units of the whole range of grey levels."""

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts save the weights beside other values."""


def load_backbone_imagenet(backbone: Backbone, path: Path | str) -> None:
    """Fill a backbone with ImageNet weights from a local file; the ImageNet head is left out.

    Raises:
        CheckpointError: the file cannot be read; a missing, unexpected or mis-shaped key (a width or depth that is not
            the published one).
    """
    path = Path(path)
    state = tensors_of(path, _unwrapped(read_plain(path)))
    dialect = _dialect(backbone, state)
    names = {key: (name,) for key, name in backbone_names(backbone, dialect).items()}
    own = backbone.state_dict()
    for key, (name,) in names.items():
        if name.endswith("num_batches_tracked"):  # files older than this counter lack it
            state.setdefault(name, own[key].new_zeros(()))
    try:
        fitted = fit(path, backbone, state, names, (*DEAD_IMAGENET, *_beyond(backbone, dialect)))
    except CheckpointError as error:
        what = f"{type(backbone).__name__} in the names of {'timm or torchvision' if dialect != 'lite' else 'its port'}"
        raise CheckpointError(f"{error} (expected: {what})") from error
    backbone.load_state_dict(fitted, strict=True)
    if isinstance(backbone, EfficientNetLite0):
        fold_normalisation(backbone)


def fold_normalisation(backbone: EfficientNetLite0) -> None:
    """Change the stem so that images normalised by ImageNet's mean and deviation give the same as TensorFlow's would.

    The weights expect ``x = (v - 127/255) / (128/255)`` and get ``u = (v - mean) / std``, so ``x = scale * u + shift``
    for each colour. The scale goes into the convolution, what the shift adds goes into the batch norm's mean. Only the
    last row and column of the stem's map differ a little, because the padding there stands for another grey.
    """
    conv, norm = backbone.stem.conv, backbone.stem.norm
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (IMAGENET_MEAN, IMAGENET_STD))
    scale, shift = std / TENSORFLOW_STD, (mean - TENSORFLOW_MEAN) / TENSORFLOW_STD
    with torch.no_grad():
        weight = conv.weight.double()
        added = (weight * shift[:, None, None]).sum(dim=(1, 2, 3))
        conv.weight.copy_(weight * scale[:, None, None])
        if norm.running_mean is not None:
            norm.running_mean.copy_(norm.running_mean.double() - added)


def _beyond(backbone: Backbone, dialect: Dialect) -> set[str]:
    """Names in the file of the whole network that a network of fewer stages has no use for."""
    if not isinstance(backbone, InvertedResidualNetwork) or backbone.last is not None:
        return set()
    name = "efficientnet_lite0" if isinstance(backbone, EfficientNetLite0) else "mobilenet_v2"
    with torch.device("meta"):
        whole = type(backbone)(1.0, DEFAULT_DEPTH[name])
    return set(backbone_names(whole, dialect).values()) - set(backbone_names(backbone, dialect).values())


def _unwrapped(content: Mapping[str, Any]) -> object:
    for key in WRAPPERS:
        if isinstance(content.get(key), dict):
            return content[key]
    return content


def _dialect(backbone: Backbone, state: Mapping[str, Tensor]) -> Dialect:
    """Whose names a file uses."""
    if isinstance(backbone, EfficientNetLite0):
        return "lite"
    if isinstance(backbone, MobileNetV2):
        if "conv_stem.weight" in state:
            return "timm"
        if "features.1.conv.0.weight" in state:
            return "authors"
    return "torchvision"

"""Our names for the weights, and the names that others' files give them.

Four dialects: ``authors`` (the released AdaFocusV2 checkpoints), and of ImageNet weights ``torchvision``, ``timm`` and
``lite`` (EfficientNet-Lite0 as ported from TensorFlow). A ResNet has the same names in the first three; MobileNetV2 has
not. Every function returns a dictionary from our ``state_dict`` key to theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from torch import nn

from adafocus.model.backbones import (
    Backbone,
    Bottleneck,
    ConvNorm,
    EfficientNetLite0,
    InvertedResidual,
    InvertedResidualNetwork,
    ResNet,
    shiftable_blocks,
)

if TYPE_CHECKING:
    from adafocus.model.adafocus import AdaFocus
    from adafocus.model.tsm import AdaFocusTSM

Dialect = Literal["authors", "torchvision", "timm", "lite"]

DEAD_AUTHORS = ("global_CNN.classifier.", "global_CNN.fc.", "local_CNN.fc.")
"""ImageNet heads that the released frame models carry along and never use."""

DEAD_IMAGENET = ("classifier.", "fc.", "_fc.")
"""Classification heads of ImageNet files."""


_FRAME_MODULES = {
    "policy.encoder.squeeze": "policy_stn.encoder.0",
    "policy.encoder.squeeze_norm": "policy_stn.encoder.1",
    "policy.encoder.linear": "policy_stn.encoder.4",
    "policy.encoder.norm": "policy_stn.encoder.5",
    "policy.centre": "policy_stn.fc.0",
    "classifier.linear": "classifier.mlp.layers.0",
    "classifier.norm": "classifier.mlp.layers.1",
    "glance_head": "global_CNN_fc.1",
    "focus_head": "local_CNN_fc.1",
}
_GRU = {
    "policy.recurrence.from_input.weight": "policy_stn.gru.weight_ih_l0",
    "policy.recurrence.from_input.bias": "policy_stn.gru.bias_ih_l0",
    "policy.recurrence.from_state.weight": "policy_stn.gru.weight_hh_l0",
    "policy.recurrence.from_state.bias": "policy_stn.gru.bias_hh_l0",
}
_CLIP_MODULES = {
    "policy.encoder.squeeze": "policy_stn.0",
    "policy.encoder.squeeze_norm": "policy_stn.1",
    "policy.encoder.linear": "policy_stn.4",
    "policy.encoder.norm": "policy_stn.5",
    "glance_head": "global_CNN.new_fc",
    "focus_head": "local_CNN.new_fc",
    "glance_auxiliary": "global_CNN.new_new_fc",
    "focus_auxiliary": "local_CNN.new_new_fc",
}


def backbone_names(backbone: Backbone, dialect: Dialect) -> dict[str, str]:
    """Our key to theirs, for a glance or focus network without its ImageNet head.

    Raises:
        ValueError: no file in that dialect holds such a network.
    """
    if isinstance(backbone, ResNet):
        return _keys(backbone, dict(_resnet(backbone)))
    if isinstance(backbone, EfficientNetLite0) != (dialect == "lite"):
        raise ValueError(f"there are no {dialect} names for {type(backbone).__name__}")
    blocks = {"timm": _timm_blocks, "lite": _lite_blocks}.get(dialect)
    pairs = _features(backbone, dialect) if blocks is None else blocks(backbone)
    return _keys(backbone, dict(pairs))


def frame_names(model: AdaFocus) -> dict[str, tuple[str, ...]]:
    """Our key to the authors', for the frame model; the T heads that we keep in one tensor are T keys of theirs."""
    names = _keys(model, _FRAME_MODULES) | _GRU
    for ours, theirs, backbone in (("glance", "global_CNN", model.glance), ("focus", "local_CNN", model.focus)):
        names |= {f"{ours}.{key}": f"{theirs}.{name}" for key, name in backbone_names(backbone, "authors").items()}
    single = {key: (name,) for key, name in names.items()}
    steps = range(model.config.steps)
    heads = {
        f"classifier.heads.{leaf}": tuple(f"classifier.classifiers.{step}.1.{leaf}" for step in steps)
        for leaf in ("weight", "bias")
    }
    return single | heads


def clip_names(model: AdaFocusTSM) -> dict[str, tuple[str, ...]]:
    """Our key to the authors', for the clip model. A convolution behind a temporal shift is called ``.net`` there."""
    modules = dict(_CLIP_MODULES)
    position = 7
    for index in range(len(model.policy.linears)):
        modules[f"policy.linears.{index}"] = f"policy_stn.{position}"
        modules[f"policy.norms.{index}"] = f"policy_stn.{position + 1}"
        position += 3
    modules["policy.centre"] = f"policy_stn.{position}"
    names = _keys(model, modules)
    for ours, theirs, backbone in (("glance", "global_CNN", model.glance), ("focus", "local_CNN", model.focus)):
        behind_shift = _first_convolutions(backbone)
        for key, name in backbone_names(backbone, "authors").items():
            if key in behind_shift:
                name = f"{name.removesuffix('weight')}net.weight"
            names[f"{ours}.{key}"] = f"{theirs}.base_model.{name}"
    return {key: (name,) for key, name in names.items()}


def _first_convolutions(backbone: Backbone) -> set[str]:
    """Our keys of the convolutions right behind a temporal shift."""
    shifted = {id(block) for block in shiftable_blocks(backbone)}
    keys = set()
    for path, block in backbone.named_modules():
        if id(block) in shifted:
            first = next(name for name, child in block.named_children() if isinstance(child, ConvNorm))
            keys.add(f"{path}.{first}.conv.weight")
    return keys


def _keys(module: nn.Module, modules: dict[str, str]) -> dict[str, str]:
    """Spell out the module names as the keys of the module's own state."""
    names = {}
    for key in module.state_dict():
        path, _, leaf = key.rpartition(".")
        if path in modules:
            names[key] = f"{modules[path]}.{leaf}"
    return names


def _conv_norm(ours: str, conv: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv", conv
    yield f"{ours}.norm", norm


def _convolutions(block: nn.Module) -> list[str]:
    """The convolutions of an inverted residual block, in their order."""
    expands = isinstance(block, InvertedResidual) and block.expand is not None
    return ["expand", "depthwise", "project"] if expands else ["depthwise", "project"]


def _features(network: InvertedResidualNetwork, dialect: Dialect) -> Iterator[tuple[str, str]]:
    """MobileNetV2 in the names of torchvision and of the authors: stem, blocks and last layer are one list."""
    yield from _conv_norm("stem", "features.0.0", "features.0.1")
    for index, block in enumerate(network.blocks):
        theirs = f"features.{index + 1}.conv"
        for position, part in enumerate(_convolutions(block)):
            if dialect == "authors":  # one flat list: convolution, norm, activation, convolution, ...
                conv, norm = f"{theirs}.{3 * position}", f"{theirs}.{3 * position + 1}"
            elif part == "project":  # the last pair lies flat in the list, the others in lists of their own
                conv, norm = f"{theirs}.{position}", f"{theirs}.{position + 1}"
            else:
                conv, norm = f"{theirs}.{position}.0", f"{theirs}.{position}.1"
            yield from _conv_norm(f"blocks.{index}.{part}", conv, norm)
    last = f"features.{len(network.blocks) + 1}"
    if network.last is not None:
        yield from _conv_norm("last", f"{last}.0", f"{last}.1")


def _timm_blocks(network: InvertedResidualNetwork) -> Iterator[tuple[str, str]]:
    """MobileNetV2 in timm's names: blocks by stage, convolutions by what they do, norms numbered within each block."""
    yield from _conv_norm("stem", "conv_stem", "bn1")
    index = 0
    for stage, repeats in enumerate(network.depth):
        for number in range(repeats):
            parts = _convolutions(network.blocks[index])
            pointwise = {"expand": "conv_pw", "depthwise": "conv_dw", "project": "conv_pwl"}
            if len(parts) == 2:  # a block that does not expand has one pointwise convolution
                pointwise["project"] = "conv_pw"
            for position, part in enumerate(parts, start=1):
                theirs = f"blocks.{stage}.{number}"
                yield from _conv_norm(f"blocks.{index}.{part}", f"{theirs}.{pointwise[part]}", f"{theirs}.bn{position}")
            index += 1
    if network.last is not None:
        yield from _conv_norm("last", "conv_head", "bn2")


def _lite_blocks(network: InvertedResidualNetwork) -> Iterator[tuple[str, str]]:
    """EfficientNet-Lite0 in the names of its port from TensorFlow."""
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    yield from _conv_norm("stem", "_conv_stem", "_bn0")
    for index, block in enumerate(network.blocks):
        for part in _convolutions(block):
            theirs = f"_blocks.{index}"
            yield from _conv_norm(f"blocks.{index}.{part}", f"{theirs}._{part}_conv", f"{theirs}.{norms[part]}")
    if network.last is not None:
        yield from _conv_norm("last", "_conv_head", "_bn1")


def _resnet(network: nn.Module) -> Iterator[tuple[str, str]]:
    yield from _conv_norm("stem", "conv1", "bn1")
    for path, block in network.named_modules():
        if not hasattr(block, "shortcut"):
            continue
        _, stage, index = path.split(".")
        theirs = f"layer{int(stage) + 1}.{index}"
        parts = ("reduce", "spatial", "expand") if isinstance(block, Bottleneck) else ("first", "second")
        for position, part in enumerate(parts, start=1):
            yield from _conv_norm(f"{path}.{part}", f"{theirs}.conv{position}", f"{theirs}.bn{position}")
        yield from _conv_norm(f"{path}.shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")

"""Small models and clips: large enough to take every path, small enough to build in milliseconds."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from adafocus.model import AdaFocus, AdaFocusTSM, BackboneConfig, ModelConfig
from adafocus.model.heatmap import HeatmapPolicy

SMALL_FRAME = ModelConfig(
    num_classes=5,
    steps=4,
    frame_size=64,
    patch_size=32,
    glance=BackboneConfig("mobilenet_v2", width=0.25, depth=(1, 1, 1, 2, 1, 1, 1)),
    focus=BackboneConfig("resnet50", width=0.125, depth=(1, 1, 1, 1)),
    policy_channels=8,
    policy_hidden=16,
    mlp_width=24,
)
SMALL_RESIZED = replace(
    SMALL_FRAME,
    glance=BackboneConfig("resnet50", width=0.125, depth=(1, 1, 1, 1), input_size=48),
    focus=BackboneConfig("resnet18", width=0.125, depth=(1, 1, 1)),
)
SMALL_MEAN = replace(SMALL_FRAME, pooling="mean")
SMALL_CLIP = replace(
    SMALL_FRAME,
    kind="clip",
    steps=1,
    glance=replace(SMALL_FRAME.glance, depth=(1, 2, 1, 2, 1, 1, 1)),
    glance_frames=3,
    focus_frames=4,
    clip_policy_widths=(16, 12),
)


def settled(model: nn.Module, seed: int = 0) -> None:
    """Random weights and batch-norm statistics, as if trained: an untrained network hides many mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif name.endswith(("_head.weight", "_auxiliary.weight")):  # a clip model's start near zero
            tensor.normal_(0, 0.03, generator=generator)
        elif tensor.is_floating_point() and tensor.ndim == 1:
            tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.05)


def frame_model(config: ModelConfig = SMALL_FRAME, seed: int = 0) -> AdaFocus:
    torch.manual_seed(seed)
    model = AdaFocus(config)
    settled(model, seed)
    with torch.no_grad():
        last = model.policy.score if isinstance(model.policy, HeatmapPolicy) else model.policy.centre
        last.weight.mul_(8)  # spread the patches over the frame
    return model.eval()


def clip_model(config: ModelConfig = SMALL_CLIP, seed: int = 0) -> AdaFocusTSM:
    torch.manual_seed(seed)
    model = AdaFocusTSM(config)
    settled(model, seed)
    with torch.no_grad():
        model.policy.centre.weight.mul_(8)
    return model.eval()


def clip(batch: int, frames: int, size: int = 64, seed: int = 1) -> torch.Tensor:
    """Normalised frames [batch, frames, 3, size, size]."""
    return torch.randn(batch, frames, 3, size, size, generator=torch.Generator().manual_seed(seed))

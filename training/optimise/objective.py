"""A model together with its loss as one module, so that it can be trained on several devices and in half precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from adafocus.model import build
from adafocus.model.config import ModelConfig
from adafocus.model.video_model import VideoModel
from adafocus.training.data.augment import Jitter, jitter_per_segment
from adafocus.training.optimise.losses import CrossEntropy, OneStageLoss, Remedies, one_stage_loss
from adafocus.training.recipe import Precision

TENSOR_CORES = (7, 0)
"""Compute capability from which a GPU multiplies fp16 faster than fp32."""

Model = VideoModel

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Objective(nn.Module):
    """The module that is differentiated: frames and labels in, the loss and its parts out."""

    box_weight: float = 0.0
    """Of the loss that compares a heatmap policy's scores with boxes."""

    def __init__(self, model: Model, remedies: Remedies, cross_entropy: CrossEntropy) -> None:
        super().__init__()
        self.model = model
        self._remedies = remedies
        self._cross_entropy = cross_entropy

    def forward(
        self, frames: Tensor, labels: Tensor, random_centres: Tensor, points: Tensor | None = None
    ) -> OneStageLoss:
        """The loss of a batch.

        Args:
            frames: [B, K, 3, H, W], normalised, as `model.video_model` takes them.
            labels: int64 [B].
            random_centres: [B, T, 2].
            points: [B, T, 2], where the thing lies, as shares of the frame; None without boxes.
        """
        return one_stage_loss(
            self.model, frames, labels, random_centres, self._remedies, self._cross_entropy, points, self.box_weight
        )


@dataclass(frozen=True)
class Method:
    """A model and its loss: the paper's, unless a study replaces them.

    Attributes:
        model: makes the model of a configuration.
        objective: makes the module that is differentiated, called as `Objective` is.
        jitter: draws which moment of each segment a clip shows.
    """

    model: Callable[[ModelConfig], Model] = build
    objective: Callable[[Model, Remedies, CrossEntropy], nn.Module] = Objective
    jitter: Jitter = jitter_per_segment


ONE_STAGE = Method()
"""AdaFocusV2 as published."""


def use_half_precision(model: Model, precision: Precision, device_type: str) -> None:
    """Run every part but the policy in half precision, without its heads; everything else stays in float32.

    The policy stays in float32 because its gradient is a small difference of neighbouring pixels, and so do patch
    centres, interpolation and losses. ``fp32`` changes nothing.
    """
    if precision == "fp32":
        return
    for name, (network, *_) in model.learning_parts().items():
        if name == "policy":
            continue
        enter, leave = _autocast_hooks(device_type, DTYPES[precision])
        network.register_forward_pre_hook(enter)
        network.register_forward_hook(leave, always_call=True)


def _autocast_hooks(
    device_type: str, dtype: torch.dtype
) -> tuple[Callable[[nn.Module, Any], None], Callable[[nn.Module, Any, Any], Any]]:
    """Hooks around a module's forward: autocast inside while it learns, a float32 output."""
    entered: list[ExitStack] = []

    def enter(module: nn.Module, _: Any) -> None:
        if module.training:
            entered.append(ExitStack())
            entered[-1].enter_context(torch.autocast(device_type, dtype))

    def leave(module: nn.Module, _: Any, output: Any) -> Any:
        if not module.training:
            return None
        entered.pop().close()
        return output.float() if isinstance(output, Tensor) else None

    return enter, leave


def fastest_precision(device: torch.device) -> Precision:
    """Return the fastest precision of a device among those that training supports.

    ``bf16`` where there are instructions for it (AVX512-BF16 or AMX, GPUs since Ampere), else ``fp16`` on GPUs with
    tensor cores, else ``fp32``: bf16 that a processor has to emulate is slower than that.
    """
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return "bf16"
    return "fp16" if torch.cuda.get_device_capability(device) >= TENSOR_CORES else "fp32"

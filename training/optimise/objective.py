"""A model together with its loss as one module, so that it can be trained on several devices and in half precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from model import build
from model.adafocus import AdaFocus
from model.config import ModelConfig
from model.tsm import AdaFocusTSM
from training.optimise.losses import CrossEntropy, OneStageLoss, Remedies, clip_loss, one_stage_loss
from training.recipe import Precision

Model = AdaFocus | AdaFocusTSM

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Objective(nn.Module):
    """What is differentiated: frames and labels in, the loss and its parts out."""

    def __init__(self, model: Model, remedies: Remedies, cross_entropy: CrossEntropy) -> None:
        super().__init__()
        self.model = model
        self._remedies = remedies
        self._cross_entropy = cross_entropy

    def forward(self, frames: Tensor, labels: Tensor, random_centres: Tensor) -> OneStageLoss:
        """The loss of a batch.

        Args:
            frames: [B, K, 3, H, W], normalised: the steps of a frame model in visiting order; the glance frames, then
                the focus frames of a clip model.
            labels: int64 [B].
            random_centres: [B, T, 2], of a clip model [B, 1, 2].
        """
        if isinstance(self.model, AdaFocus):
            return one_stage_loss(self.model, frames, labels, random_centres, self._remedies, self._cross_entropy)
        first = self.model.config.glance_frames
        parted = frames[:, :first], frames[:, first:]
        return clip_loss(self.model, parted, labels, random_centres[:, 0], self._remedies, self._cross_entropy)


@dataclass(frozen=True)
class Method:
    """What is trained, and by which loss: the paper's, unless a study puts something else in its place.

    Attributes:
        model: makes the model of a configuration.
        objective: makes the module that is differentiated, called as `Objective` is.
    """

    model: Callable[[ModelConfig], Model] = build
    objective: Callable[[Model, Remedies, CrossEntropy], nn.Module] = Objective


ONE_STAGE = Method()
"""AdaFocusV2 as published."""


def answer(model: Model, frames: Tensor) -> Tensor:
    """Step logits [B, T, C] of frames as `Objective.forward` takes them; a clip model has one step."""
    if isinstance(model, AdaFocus):
        step_logits: Tensor = model(frames).step_logits
        return step_logits
    first = model.config.glance_frames
    logits: Tensor = model(frames[:, :first], frames[:, first:]).logits
    return logits[:, None]


def use_half_precision(model: Model, precision: Precision, device_type: str) -> None:
    """Run both networks and the frame model's classifier in half precision; everything else stays in float32.

    The policy stays whole because its gradient is a small difference of neighbouring pixels, and so do patch centres,
    interpolation and losses. ``fp32`` changes nothing.
    """
    if precision == "fp32":
        return
    parts: list[nn.Module] = [model.glance, model.focus]
    if isinstance(model, AdaFocus):
        parts.append(model.classifier)
    for part in parts:
        enter, leave = _autocast_hooks(device_type, DTYPES[precision])
        part.register_forward_pre_hook(enter)
        part.register_forward_hook(leave, always_call=True)


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

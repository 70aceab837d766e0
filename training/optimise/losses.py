"""The one-stage loss with its three remedies (arXiv 2112.14238), each of which can be switched off.

All parts learn together from cross-entropies; the gradient reaches the policy only through the interpolation of the
patches it chose. What makes that work are the remedies of `Remedies`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adafocus.model.video_model import VideoModel


@dataclass(frozen=True)
class Remedies:
    """The paper's three measures that make the policy learn; the published method uses all of them.

    Attributes:
        supervision: two auxiliary frame-wise losses, on the glance's and on the focus's own logits.
        diversity: every batch runs the focus twice, with the policy's patches and with uniformly random ones.
        stability: the policy's input is detached, so its gradient stays out of the glance network.
    """

    supervision: bool = True
    diversity: bool = True
    stability: bool = True


class OneStageLoss(NamedTuple):
    """The loss and what it was made of; all scalars."""

    total: Tensor
    """What to differentiate."""
    steps: Tensor
    """Mean cross-entropy of the step logits, with the policy's patches."""
    random_steps: Tensor
    """The same with random patches; zero without the diversity remedy."""
    glance: Tensor
    """Auxiliary frame-wise cross-entropy of the glance; zero without supervision."""
    focus: Tensor
    """Auxiliary frame-wise cross-entropy of the focus with the policy's patches; zero without supervision."""
    patch_centres: Tensor
    """[B, T, 2], the policy's, detached: for looking at what it does."""


@dataclass(frozen=True)
class CrossEntropy:
    """Mean over clips and steps of the cross-entropy against each clip's label.

    Attributes:
        label_smoothing: share of the target spread over all classes.
        class_weights: [C], or None for equal ones.
    """

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """[B, T, C] against int64 [B] -> scalar."""
        per_frame = labels[:, None].expand(logits.shape[:2])
        return F.cross_entropy(
            logits.flatten(0, 1),
            per_frame.flatten(),
            weight=self.class_weights,
            label_smoothing=self.label_smoothing,
        )


def one_stage_loss(
    model: VideoModel,
    frames: Tensor,
    labels: Tensor,
    random_centres: Tensor,
    remedies: Remedies = Remedies(),
    cross_entropy: CrossEntropy = CrossEntropy(),
) -> OneStageLoss:
    """The loss of one batch: (L'(policy) + L'(random)) / 2, with L' = CE(steps) + CE(glance) + CE(focus).

    The glance runs once: its term is the same in both passes, and so counts with weight one. A clip model has one step,
    whose heads read detached features: its networks and its policy learn through the auxiliary terms alone.

    Args:
        model: in training mode.
        frames: [B, K, 3, H, W], normalised, as `model.video_model` takes them.
        labels: int64 [B].
        random_centres: [B, T, 2], uniform in [0, 1]; read only by the diversity remedy.
        remedies: which of the three are on; a clip model's supervision cannot be off.
        cross_entropy: how logits are compared with labels.
    """
    glance = model.glance_clip(frames, detach_policy=remedies.stability)
    nothing = glance.features.new_zeros(())
    glance_term = cross_entropy(glance.logits, labels) if remedies.supervision else nothing

    def focus_terms(centres: Tensor) -> tuple[Tensor, Tensor]:
        focus = model.focus_clip(frames, glance.features, centres)
        auxiliary = cross_entropy(focus.logits, labels) if remedies.supervision else nothing
        return cross_entropy(focus.step_logits, labels), auxiliary

    steps, focus_term = focus_terms(glance.patch_centres)
    total, random_steps = steps + focus_term, nothing
    if remedies.diversity:
        random_steps, random_focus = focus_terms(random_centres)
        total = (total + random_steps + random_focus) / 2
    return OneStageLoss(
        total=total + glance_term,
        steps=steps.detach(),
        random_steps=random_steps.detach(),
        glance=glance_term.detach(),
        focus=focus_term.detach(),
        patch_centres=glance.patch_centres.detach(),
    )


def balanced_class_weights(counts: Tensor, strength: float) -> Tensor:
    """Weights [C] proportional to ``1 / counts**strength`` with mean one; a class without clips weighs nothing."""
    weights = torch.where(counts > 0, counts.clamp(min=1).double() ** -strength, torch.zeros_like(counts).double())
    return (weights * len(counts) / weights.sum()).float()

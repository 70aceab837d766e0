"""The one-stage loss with its three remedies (PAPER section 2), each of which can be switched off.

All parts learn together from cross-entropies; the gradient reaches the policy only through the interpolation of the
patches it chose. What makes that work are the remedies of `Remedies`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Remedies:
    """The paper's three measures against a policy that does not learn; all on is the method.

    Attributes:
        supervision: two auxiliary frame-wise losses, on the glance's and on the focus's own logits.
        diversity: every batch runs the focus twice, with the policy's patches and with uniformly random ones.
        stability: the policy's input is detached, so its gradient stays out of the glance network.
    """

    supervision: bool = True
    diversity: bool = True
    stability: bool = True


class GlancePass(Protocol):
    """What the loss reads of a glance over a clip (`model.adafocus.GlanceClip`)."""

    @property
    def features(self) -> Tensor:
        """[B, T, G]."""

    @property
    def logits(self) -> Tensor:
        """[B, T, C], the auxiliary head's."""

    @property
    def patch_centres(self) -> Tensor:
        """[B, T, 2], the policy's."""


class FocusPass(Protocol):
    """What the loss reads of a focus over a clip (`model.adafocus.FocusClip`)."""

    @property
    def step_logits(self) -> Tensor:
        """[B, T, C], after each step."""

    @property
    def logits(self) -> Tensor:
        """[B, T, C], the auxiliary head's."""


class TwoPassModel(Protocol):
    """A frame model as the loss uses it: one glance, then a focus per choice of patches."""

    def glance_clip(self, frames: Tensor, *, detach_policy: bool = True) -> GlancePass:
        """Glance and policy over a clip [B, T, 3, H, W]."""

    def focus_clip(self, frames: Tensor, glance_features: Tensor, patch_centres: Tensor) -> FocusPass:
        """Focus and classifier over a clip, given patch centres [B, T, 2]."""


class ClipGlancePass(Protocol):
    """What the loss reads of a clip model's glance (`model.tsm.GlanceClipTSM`)."""

    @property
    def logits(self) -> Tensor:
        """[B, C], part of the answer."""

    @property
    def auxiliary_logits(self) -> Tensor:
        """[B, C], through which the network learns."""

    @property
    def patch_centre(self) -> Tensor:
        """[B, 2], the policy's."""


class ClipFocusPass(Protocol):
    """What the loss reads of a clip model's focus (`model.tsm.FocusClipTSM`)."""

    @property
    def logits(self) -> Tensor:
        """[B, C], part of the answer."""

    @property
    def auxiliary_logits(self) -> Tensor:
        """[B, C], through which the network learns."""


class ClipTwoPassModel(Protocol):
    """A clip model as the loss uses it."""

    def glance_clip(self, frames: Tensor, *, detach_policy: bool = True) -> ClipGlancePass:
        """Glance and policy over a clip's glance frames."""

    def focus_clip(self, frames: Tensor, patch_centre: Tensor) -> ClipFocusPass:
        """Focus over a clip's focus frames, given one patch centre [B, 2]."""


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
    model: TwoPassModel,
    frames: Tensor,
    labels: Tensor,
    random_centres: Tensor,
    remedies: Remedies = Remedies(),
    cross_entropy: CrossEntropy = CrossEntropy(),
) -> OneStageLoss:
    """The loss of one batch: (L'(policy) + L'(random)) / 2, with L' = CE(steps) + CE(glance) + CE(focus).

    The glance runs once: its term is the same in both passes, and so counts with weight one.

    Args:
        model: a frame model in training mode.
        frames: [B, T, 3, H, W], normalised, in visiting order.
        labels: int64 [B].
        random_centres: [B, T, 2], uniform in [0, 1]; read only by the diversity remedy.
        remedies: which of the three are on.
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


def clip_loss(
    model: ClipTwoPassModel,
    frames: tuple[Tensor, Tensor],
    labels: Tensor,
    random_centres: Tensor,
    remedies: Remedies = Remedies(),
    cross_entropy: CrossEntropy = CrossEntropy(),
) -> OneStageLoss:
    """The clip model's loss (PAPER section 4): half the sum over random and policy patches of L'.

    L' = CE(prediction) + CE(glance auxiliary) + CE(focus auxiliary); the prediction's heads read detached features, so
    the networks and the policy learn through the auxiliary heads alone.

    Args:
        model: a clip model in training mode.
        frames: the glance's [B, 8, 3, H, W] and the focus's [B, 12, 3, H, W], normalised.
        labels: int64 [B].
        random_centres: [B, 2], uniform in [0, 1]; read only by the diversity remedy.
        remedies: ``supervision`` cannot be off.
        cross_entropy: how logits are compared with labels.
    """
    glance = model.glance_clip(frames[0], detach_policy=remedies.stability)
    glance_term = cross_entropy(glance.auxiliary_logits[:, None], labels)

    def focus_terms(centre: Tensor) -> tuple[Tensor, Tensor]:
        focus = model.focus_clip(frames[1], centre)
        prediction = cross_entropy((glance.logits + focus.logits)[:, None], labels)
        return prediction, cross_entropy(focus.auxiliary_logits[:, None], labels)

    answer, focus_term = focus_terms(glance.patch_centre)
    total, random_answer = answer + focus_term, glance_term.new_zeros(())
    if remedies.diversity:
        random_answer, random_focus = focus_terms(random_centres)
        total = (total + random_answer + random_focus) / 2
    return OneStageLoss(
        total=total + glance_term,
        steps=answer.detach(),
        random_steps=random_answer.detach(),
        glance=glance_term.detach(),
        focus=focus_term.detach(),
        patch_centres=glance.patch_centre[:, None].detach(),
    )


def balanced_class_weights(counts: Tensor, strength: float) -> Tensor:
    """Weights [C] proportional to ``1 / counts**strength`` with mean one; a class without clips weighs nothing."""
    weights = torch.where(counts > 0, counts.clamp(min=1).double() ** -strength, torch.zeros_like(counts).double())
    return (weights * len(counts) / weights.sum()).float()

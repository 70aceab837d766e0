"""The one-stage loss with its three remedies (arXiv 2112.14238), each of which can be switched off.

All parts learn together from cross-entropies; the gradient reaches the policy only through the interpolation of the
patches it chose. The remedies of `Remedies` make that work.
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
    """The loss and its terms; all scalars."""

    total: Tensor
    """The value to differentiate."""
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
    boxes: Tensor
    """Cross-entropy of the policy's scores against the place of the boxes; zero where it is off or none is known."""


@dataclass(frozen=True)
class CrossEntropy:
    """Mean over clips and steps of the cross-entropy against each clip's label, or against each label by itself.

    Attributes:
        label_smoothing: share of the target spread over all classes.
        class_weights: [C], or None for equal ones.
    """

    label_smoothing: float = 0.0
    class_weights: Tensor | None = None

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """[B, T, C] against int64 [B], or against a float for every label, [B, C] -> scalar."""
        if labels.is_floating_point():
            targets = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
            return F.binary_cross_entropy_with_logits(
                logits, targets[:, None].expand_as(logits), weight=self.class_weights
            )
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
    points: Tensor | None = None,
    box_weight: float = 0.0,
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
        points: [B, T, 2], where the thing lies, in (y, x) shares of the frame; NaN where that is unknown.
        box_weight: of the loss that compares a heatmap policy's scores with these points.
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
    box_term = nothing
    if box_weight and points is not None and glance.scores is not None:
        box_term = box_loss(glance.scores.flatten(0, 1), points.flatten(0, 1))
    return OneStageLoss(
        total=total + glance_term + box_weight * box_term,
        steps=steps.detach(),
        random_steps=random_steps.detach(),
        glance=glance_term.detach(),
        focus=focus_term.detach(),
        patch_centres=glance.patch_centres.detach(),
        boxes=box_term.detach(),
    )


def box_loss(scores: Tensor, points: Tensor) -> Tensor:
    """Cross-entropy of scores over the cells of a map against points, which the four cells around each one share.

    The shares are those of bilinear interpolation, so that their mean position is the point itself.

    Args:
        scores: [N, h, w].
        points: [N, 2], (y, x) in 0..1 of the map's sides; rows with NaN do not count.

    Returns:
        A scalar; zero if no point is known.
    """
    known = ~points.isnan().any(dim=1)
    if not known.any():
        return scores.new_zeros(())
    scores, points = scores[known], points[known]
    sides = points.new_tensor(scores.shape[1:])
    share_y, share_x = (
        (1 - (torch.arange(side, device=points.device) - at[:, None]).abs()).clamp(min=0)  # (N, side)
        for side, at in zip(scores.shape[1:], _in_cells(points, sides).unbind(dim=1), strict=True)
    )
    target = share_y[:, :, None] * share_x[:, None, :]
    return -(target.flatten(1) * F.log_softmax(scores.flatten(1), dim=1)).sum(dim=1).mean()


def _in_cells(points: Tensor, sides: Tensor) -> Tensor:
    """Shares of the map's sides as positions in cells, 0 the middle of the first; beyond the outer middles on them."""
    return torch.minimum((points * sides - 0.5).clamp(min=0), sides - 1)


def near_points(centres: Tensor, points: Tensor, patch_share: float, spread: float) -> Tensor:
    """Patch centres that lie near known points, and as they are where none is known.

    Args:
        centres: [B, T, 2], patch centres in 0..1, as a policy gives them.
        points: [B, T, 2], in (y, x) shares of the frame; NaN where unknown.
        patch_share: side of the patch as a share of the frame's.
        spread: standard deviation of the distance, as a share of the patch's side.
    """
    aimed = points + torch.randn_like(points) * spread * patch_share
    actions = ((aimed - patch_share / 2) / max(1e-6, 1 - patch_share)).clamp(0, 1)
    return torch.where(points.isnan(), centres, actions)


def balanced_class_weights(counts: Tensor, strength: float) -> Tensor:
    """Weights [C] proportional to ``1 / counts**strength`` with mean one; a class without clips weighs nothing."""
    weights = torch.where(counts > 0, counts.clamp(min=1).double() ** -strength, torch.zeros_like(counts).double())
    return (weights * len(counts) / weights.sum()).float()

"""The arms of the study: models and trainings in which one part of the method is replaced.

Models differ in where the focus looks (`Centre`, `Random`, `Shrunk`) or have only one network (`OneNetwork`); `STAGES`
trains the published model part by part instead of all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus.model.adafocus import AdaFocus
from adafocus.model.backbones import by_clip, spatial_mean
from adafocus.model.config import ModelConfig
from adafocus.model.flops import step_flops
from adafocus.model.video_model import FocusClip, GlanceClip
from adafocus.training.optimise.losses import CrossEntropy, OneStageLoss, Remedies
from adafocus.training.optimise.objective import Method, Model, Objective
from benchmarks.evidence.oracle import Oracle

Loss = Callable[[Model, Remedies, CrossEntropy], nn.Module]


class Centre(AdaFocus):
    """Every patch is the frame's middle."""

    def glance_clip(self, frames: Tensor, *, detach_policy: bool = True) -> GlanceClip:
        """As the published model, but for the patch centres."""
        glance = super().glance_clip(frames, detach_policy=detach_policy)
        return glance._replace(patch_centres=torch.full_like(glance.patch_centres, 0.5))


class Random(AdaFocus):
    """Every patch has a random position, in training and in inference."""

    def glance_clip(self, frames: Tensor, *, detach_policy: bool = True) -> GlanceClip:
        """As the published model, but for the patch centres."""
        glance = super().glance_clip(frames, detach_policy=detach_policy)
        return glance._replace(patch_centres=torch.rand_like(glance.patch_centres))


class Shrunk(AdaFocus):
    """The focus sees the whole frame, shrunk to the size of a patch."""

    def focus_clip(self, frames: Tensor, glance_features: Tensor, patch_centres: Tensor) -> FocusClip:
        """As the published model, but for what is cut out."""
        size, T = self.config.patch_size, frames.shape[1]
        whole = F.interpolate(frames.flatten(0, 1), size=(size, size), mode="bilinear", antialias=True)
        features = spatial_mean(self.focus(whole))
        logits = by_clip(self.focus_head(self.dropout(features)), T)
        return FocusClip(self.classifier(glance_features, by_clip(features, T)), logits)


class OneNetwork(AdaFocus):
    """The model has only the glance network; the classifier's other half gets zeros."""

    def focus_clip(self, frames: Tensor, glance_features: Tensor, patch_centres: Tensor) -> FocusClip:
        """No focus: nothing is cut out, and the auxiliary head learns the classes' frequencies."""
        B, T = frames.shape[:2]
        nothing = glance_features.new_zeros(B, T, self.focus.channels)
        return FocusClip(self.classifier(glance_features, nothing), self.focus_head(nothing))


def multiply_adds(model: AdaFocus) -> int:
    """Multiply-adds of one step of an arm: without the policy if it is unused, without the focus if there is none."""
    count = step_flops(model)
    parts = count.breakdown
    if isinstance(model, OneNetwork):
        glance, focus = model.glance.channels, model.focus.channels
        return parts["glance network"] + parts["classifier MLP"] * glance // (glance + focus) + parts["step head"]
    unasked = parts["policy"] if isinstance(model, Centre | Random | Shrunk | Oracle) else 0
    return count.per_step - unasked


class _Stage(nn.Module):
    """An objective that trains one part; the others stay fixed, except for the statistics of their batch norms."""

    parts: tuple[str, ...] = ()

    def __init__(self, model: Model, _: Remedies, cross_entropy: CrossEntropy) -> None:
        super().__init__()
        if not isinstance(model, AdaFocus):
            raise TypeError("only a frame model can be trained in stages")
        self.model = model
        self.cross_entropy = cross_entropy
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in self.parts)

    def forward(self, frames: Tensor, labels: Tensor, random_centres: Tensor) -> OneStageLoss:
        """As `training.optimise.objective.Objective`."""
        glance = self.model.glance_clip(frames)
        nothing = glance.features.new_zeros(())
        centres = glance.patch_centres
        if "glance" in self.parts:
            term = self.cross_entropy(glance.logits, labels)
            return OneStageLoss(term, nothing, nothing, term.detach(), nothing, centres.detach(), nothing)
        chosen = random_centres if self.at_random else centres
        focus = self.model.focus_clip(frames, glance.features, chosen)
        steps, own = self.cross_entropy(focus.step_logits, labels), self.cross_entropy(focus.logits, labels)
        return OneStageLoss(steps + own, steps.detach(), nothing, nothing, own.detach(), centres.detach(), nothing)

    at_random = False


class GlanceStage(_Stage):
    """First: the glance network alone, frame by frame."""

    parts = ("glance", "glance_head")


class FocusStage(_Stage):
    """Second: focus and classifier, on random patches."""

    parts = ("focus", "focus_head", "classifier")
    at_random = True


class PolicyStage(_Stage):
    """Third: the policy, through the interpolation of its patches; everything else is fixed."""

    parts = ("policy",)


class LastStage(_Stage):
    """Fourth: focus and classifier again, on the patches of the trained policy."""

    parts = ("focus", "focus_head", "classifier")


@dataclass(frozen=True)
class Phase:
    """One of several trainings: its objective, and its length as a share of the recipe's epochs."""

    name: str
    objective: Loss
    share: float


ONE_STAGE = (Phase("all", Objective, 1.0),)
STAGES = (
    Phase("glance", GlanceStage, 1.0),
    Phase("focus", FocusStage, 1.0),
    Phase("policy", PolicyStage, 0.5),
    Phase("last", LastStage, 0.5),
)


@dataclass(frozen=True)
class Arm:
    """One variant of the model or the training.

    Attributes:
        model: class of the model. remedies: which are off.
        phases: of the training, one after the other.
        compute: how the model is matched to the compute of the published one: ``same`` networks; the glance alone on
            the ``large`` frame that this compute allows, or on the next larger one where a frame is shrunk by a whole
            factor; or the focus network on the ``full`` frame, for as many frames as this compute allows.
    """

    model: type[AdaFocus] = AdaFocus
    off: tuple[str, ...] = ()
    phases: tuple[Phase, ...] = ONE_STAGE
    compute: str = "same"

    def method(self, phase: Phase) -> Method:
        """For `training.run.train.train`."""
        return Method(self.build, phase.objective)

    def build(self, config: ModelConfig) -> AdaFocus:
        """The arm's model."""
        return self.model(config)


ARMS = {
    "learned": Arm(),
    "centre": Arm(Centre),
    "random": Arm(Random, off=("diversity",)),
    "shrunk": Arm(Shrunk, off=("diversity",)),
    "none": Arm(OneNetwork, off=("diversity",), compute="large"),
    "oracle": Arm(Oracle),
    "full": Arm(OneNetwork, off=("diversity",), compute="full"),
    "no-supervision": Arm(off=("supervision",)),
    "no-diversity": Arm(off=("diversity",)),
    "no-stability": Arm(off=("stability",)),
    "staged": Arm(phases=STAGES),
}

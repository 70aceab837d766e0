"""The interface of both kinds of model, which training, evaluation and export use.

`model.adafocus.AdaFocus` (kind ``frame``) and `model.tsm.AdaFocusTSM` (kind ``clip``) implement it. A clip is given as
one tensor of frames [B, K, 3, H, W], normalised: the steps of a frame model in visiting order, or a clip model's glance
frames followed by its focus frames. A frame model has T steps, a clip model one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from adafocus.model.backbones import Backbone
from adafocus.model.config import Kind, ModelConfig


class GlanceClip(NamedTuple):
    """Outputs of the glance and the policy for a clip."""

    features: Tensor
    """[B, T, G], what the focus needs of the glance: its pooled feature; a clip model's share of the logits."""
    logits: Tensor
    """[B, T, C], the auxiliary head's."""
    patch_centres: Tensor
    """[B, T, 2], the policy's, in (y, x) order."""
    scores: Tensor | None = None
    """[B, T, h, w], a heatmap policy's scores of the cells of the glance's map; None for other policies."""


class FocusClip(NamedTuple):
    """Outputs of the focus and the classifier for a clip, given patch centres."""

    step_logits: Tensor
    """[B, T, C], after each step."""
    logits: Tensor
    """[B, T, C], the auxiliary head's."""


class VideoModel(nn.Module, ABC):
    """A glance that says where to look closely, and a focus that looks there."""

    kind: ClassVar[Kind]
    unused_in_released: ClassVar[tuple[str, ...]] = ()
    """Prefixes of the keys in the authors' checkpoints that the model does not use."""

    config: ModelConfig
    glance: Backbone
    focus: Backbone

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.kind != self.kind:
            raise ValueError(f"{type(self).__name__} needs kind {self.kind!r}, got {config.kind!r}")
        self.config = config

    @abstractmethod
    def glance_clip(self, frames: Tensor, *, detach_policy: bool = True) -> GlanceClip:
        """Glance and policy over a clip [B, K, 3, H, W].

        With ``detach_policy`` the policy's gradient stops before the glance network, which makes one-stage training
        stable (arXiv 2112.14238).
        """

    @abstractmethod
    def focus_clip(self, frames: Tensor, glance_features: Tensor, patch_centres: Tensor) -> FocusClip:
        """Focus and classifier over a clip: [B, K, 3, H, W], [B, T, G], [B, T, 2].

        Training calls it twice on one glance: with the policy's patches and with random ones.
        """

    @abstractmethod
    def learning_parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """Modules by the part whose learning rate they have: the part's network first, then its heads."""

    @abstractmethod
    def released_names(self) -> Mapping[str, tuple[str, ...]]:
        """Our ``state_dict`` key to the key, or the keys to stack, in the authors' checkpoints.

        Raises:
            ValueError: the authors have no such networks.
        """

    def answer(self, frames: Tensor) -> Tensor:
        """Step logits [B, T, C] of a clip [B, K, 3, H, W]."""
        glance = self.glance_clip(frames)
        return self.focus_clip(frames, glance.features, glance.patch_centres).step_logits

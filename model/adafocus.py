"""The frame model of AdaFocusV2 (arXiv 2112.14238): glance at a frame, focus on one patch of it, pool, classify.

``forward`` takes a whole clip, as training does; ``glance_step`` and ``focus_step`` take one frame per row, as serving
does. Both run the same modules and agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus.model.backbones import build_backbone, by_clip, feature_map_size, spatial_mean
from adafocus.model.classifier import Classifier
from adafocus.model.config import Kind, ModelConfig
from adafocus.model.heatmap import HeatmapPolicy
from adafocus.model.names import DEAD_AUTHORS, frame_names
from adafocus.model.patch import crop_patches
from adafocus.model.policy import Policy
from adafocus.model.video_model import FocusClip, GlanceClip, VideoModel

NO_STATE = 1
"""Width of the policy state of a policy that keeps none: a graph's tensors have at least one column."""


class ClipOutput(NamedTuple):
    """All outputs of a forward pass over a clip."""

    step_logits: Tensor
    """[B, T, C], after each step; the last is the answer over all frames."""
    glance_logits: Tensor
    """[B, T, C], auxiliary."""
    focus_logits: Tensor
    """[B, T, C], auxiliary."""
    patch_centres: Tensor
    """[B, T, 2], those that were used, in (y, x) order."""


class AdaFocus(VideoModel):
    """The frame model.

    Frames are normalised floating point images in the order of the visit (``config.frame_order``): position t of a clip
    is step t. A clip may be shorter than ``config.steps``.
    """

    kind: ClassVar[Kind] = "frame"
    unused_in_released = DEAD_AUTHORS

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.glance = build_backbone(config.glance)
        self.focus = build_backbone(config.focus)
        G, L = self.glance.channels, self.focus.channels
        map_size = feature_map_size(self.glance, config.glance_size)
        self.policy: Policy | HeatmapPolicy
        if config.policy == "heatmap":
            self.policy = HeatmapPolicy(G, map_size, config.policy_channels, config.frame_size, config.patch_size)
        else:
            self.policy = Policy(G, map_size, config.policy_channels, config.policy_hidden)
        self.classifier = Classifier(
            G + L, config.mlp_width, config.steps, config.num_classes, config.dropout, config.pooling
        )
        self.glance_head = nn.Linear(G, config.num_classes)  # auxiliary: training only
        self.focus_head = nn.Linear(L, config.num_classes)  # auxiliary: training only
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, frames: Tensor, patch_centres: Tensor | None = None) -> ClipOutput:
        """Classify a clip.

        Args:
            frames: [B, T, 3, H, W], H = W = ``config.frame_size``.
            patch_centres: [B, T, 2] instead of the policy's, in (y, x) order.
        """
        glance = self.glance_clip(frames)
        centres = glance.patch_centres if patch_centres is None else patch_centres
        focus = self.focus_clip(frames, glance.features, centres)
        return ClipOutput(focus.step_logits, glance.logits, focus.logits, centres)

    def glance_clip(self, frames: Tensor, *, detach_policy: bool = True) -> GlanceClip:
        """See `VideoModel`."""
        B, T = frames.shape[:2]
        feature_maps = self._feature_map(frames.flatten(0, 1))  # (B·T, G, h, w)
        policy_input = feature_maps.detach() if detach_policy else feature_maps
        scores = None
        if isinstance(self.policy, HeatmapPolicy):
            look = self.policy(policy_input)
            features, centres, scores = look.features, by_clip(look.centres, T), by_clip(look.scores, T)
        else:
            features = spatial_mean(feature_maps)
            centres = self.policy(by_clip(policy_input, T), self.initial_states(B)[0])
        logits = self.glance_head(self.dropout(features))
        return GlanceClip(by_clip(features, T), by_clip(logits, T), centres, scores)

    def focus_clip(self, frames: Tensor, glance_features: Tensor, patch_centres: Tensor) -> FocusClip:
        """See `VideoModel`."""
        T = frames.shape[1]
        patches = crop_patches(frames.flatten(0, 1), patch_centres.flatten(0, 1), self.config.patch_size)
        features = self._focus_features(patches)  # (B·T, L)
        logits = by_clip(self.focus_head(self.dropout(features)), T)
        return FocusClip(self.classifier(glance_features, by_clip(features, T)), logits)

    def learning_parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """See `VideoModel`."""
        return {
            "policy": (self.policy,),
            "glance": (self.glance, self.glance_head),
            "focus": (self.focus, self.focus_head),
            "classifier": (self.classifier,),
        }

    def released_names(self) -> Mapping[str, tuple[str, ...]]:
        """See `VideoModel`."""
        return frame_names(self)

    def initial_states(self, batch: int) -> tuple[Tensor, Tensor]:
        """The states before the first step, all zero: policy state [B, S], pooled state [B, F]."""
        like = self.classifier.linear.weight
        hidden = NO_STATE if isinstance(self.policy, HeatmapPolicy) else self.config.policy_hidden
        policy_state = torch.zeros(batch, hidden, dtype=like.dtype, device=like.device)
        pooled_state = torch.zeros(batch, self.config.mlp_width, dtype=like.dtype, device=like.device)
        return policy_state, pooled_state

    def glance_step(self, frames: Tensor, policy_state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Glance at one frame per row.

        Args:
            frames: [B, 3, H, W].
            policy_state: [B, S].

        Returns:
            glance feature [B, G], patch centre [B, 2] in (y, x) order, next policy state [B, S].
        """
        feature_map = self._feature_map(frames)
        if isinstance(self.policy, HeatmapPolicy):
            return self._look(feature_map, policy_state)
        centre, next_state = self.policy.step(feature_map, policy_state)
        return spatial_mean(feature_map), centre, next_state

    def glance_steps(self, frames: Tensor, policy_state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Glance at T frames of each of V videos: ``glance_step`` T times, in one batch where it can be.

        Args:
            frames: [T·V, 3, H, W], step after step.
            policy_state: [V, S], before the first of the steps.

        Returns:
            glance feature [T·V, G], patch centre [T·V, 2] in (y, x) order, policy state after each step [T·V, S].
        """
        feature_map = self._feature_map(frames)
        if isinstance(self.policy, HeatmapPolicy):
            return self._look(feature_map, policy_state)
        centre, states = self.policy.steps(feature_map, policy_state)
        return spatial_mean(feature_map), centre, states

    def focus_step(
        self, frames: Tensor, patch_centre: Tensor, glance_feature: Tensor, pooled_state: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Look closely at one patch per row and classify what was seen so far.

        Args:
            frames: [B, 3, H, W], the frames of the glance.
            patch_centre: [B, 2] in (y, x) order.
            glance_feature: [B, G].
            pooled_state: [B, F].
            step: int64 [B], each row's own, from 0.

        Returns:
            logits [B, C], next pooled state [B, F].
        """
        patches = crop_patches(frames, patch_centre, self.config.patch_size)
        return self.focus_patch_step(patches, glance_feature, pooled_state, step)

    def focus_patch_step(
        self, patches: Tensor, glance_feature: Tensor, pooled_state: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``focus_step`` on normalised patches [B, 3, P, P] that are already cut."""
        return self.classifier.step(glance_feature, self._focus_features(patches), pooled_state, step)

    def focus_patch_steps(
        self, patches: Tensor, glance_feature: Tensor, pooled_state: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """``focus_patch_step`` for T steps of V videos: T·V rows, step after step, and pooled state [V, F]."""
        return self.classifier.steps(glance_feature, self._focus_features(patches), pooled_state, step)

    def _focus_features(self, patches: Tensor) -> Tensor:
        """[N, 3, P, P] -> [N, L], of the patches enlarged where that is configured."""
        size = self.config.focus_size
        if size != self.config.patch_size:
            patches = F.interpolate(patches, size=(size, size), mode="bilinear", align_corners=False)
        return spatial_mean(self.focus(patches))

    def _look(self, feature_map: Tensor, policy_state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Glance features, centres and states [B, 1] of a policy that keeps none: they stay zero."""
        look = self.policy(feature_map)
        zeros = torch.zeros_like(look.centres[:, :1])
        return look.features, look.centres, zeros + policy_state[:1]  # an exported graph must use its inputs

    def _feature_map(self, frames: Tensor) -> Tensor:
        """[N, 3, H, W] -> the glance network's map [N, G, h, w], on the frame resized where it is configured so."""
        size = self.config.glance_size
        if self.config.glance.shrink == "area" and size != self.config.frame_size:
            frames = F.avg_pool2d(frames, self.config.frame_size // size)
        elif size != self.config.frame_size:
            frames = F.interpolate(frames, size=(size, size), mode="bilinear", align_corners=True)
        feature_map: Tensor = self.glance(frames)
        return feature_map

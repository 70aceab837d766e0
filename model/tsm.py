"""The clip model of AdaFocusV2 (arXiv 2112.14238): temporal shift in both networks, one patch centre a clip.

The temporal shift is Lin et al.'s, ICCV 2019: some channels of every frame are taken from the frame after, some from
the frame before, in front of the first convolution of each residual block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus.model.backbones import (
    Backbone,
    build_backbone,
    by_clip,
    feature_map_size,
    shiftable_blocks,
    spatial_mean,
)
from adafocus.model.config import BackboneConfig, Kind, ModelConfig
from adafocus.model.names import clip_names
from adafocus.model.patch import crop_patches
from adafocus.model.policy import ClipPolicy
from adafocus.model.video_model import FocusClip, GlanceClip, VideoModel

HEAD_DEVIATION = 0.001
"""Standard deviation of the heads' initial weights, as in the released AdaFocusV2 and in TSM; biases start at 0."""


class TemporalShift(nn.Module):
    """Moves 1/fraction of the channels one frame back in time and as many one frame on; zeros come in at the ends."""

    def __init__(self, frames: int, fraction: int) -> None:
        super().__init__()
        self.frames = frames
        self.fraction = fraction

    def forward(self, x: Tensor) -> Tensor:
        """[B·T, C, h, w] -> the same shape."""
        x = by_clip(x, self.frames)  # (B, T, C, h, w)
        fold = x.shape[2] // self.fraction
        later, earlier, same = x[:, :, :fold], x[:, :, fold : 2 * fold], x[:, :, 2 * fold :]
        later = F.pad(later[:, 1:], (0, 0, 0, 0, 0, 0, 0, 1))
        earlier = F.pad(earlier[:, :-1], (0, 0, 0, 0, 0, 0, 1, 0))
        return torch.cat([later, earlier, same], dim=2).flatten(0, 1)


def build_shifted(config: BackboneConfig, frames: int, fraction: int) -> Backbone:
    """A backbone for clips of that many frames."""
    backbone = build_backbone(config)
    for block in shiftable_blocks(backbone):
        block.shift = TemporalShift(frames, fraction)
    return backbone


class GlanceClipTSM(NamedTuple):
    """Outputs of the glance and the policy for a clip."""

    logits: Tensor
    """[B, C], mean over the frames of the glance head; part of the answer."""
    auxiliary_logits: Tensor
    """[B, C], the head through which the network learns."""
    patch_centre: Tensor
    """[B, 2] in (y, x) order, one for all frames."""


class FocusClipTSM(NamedTuple):
    """Outputs of the focus for a clip, given a patch centre."""

    logits: Tensor
    """[B, C], mean over the frames of the focus head; part of the answer."""
    auxiliary_logits: Tensor
    """[B, C], the head through which the network learns."""


class ClipModelOutput(NamedTuple):
    """All outputs of a forward pass over a clip."""

    logits: Tensor
    """[B, C], the answer: glance's plus focus's."""
    glance_logits: Tensor
    """[B, C], auxiliary."""
    focus_logits: Tensor
    """[B, C], auxiliary."""
    patch_centre: Tensor
    """[B, 2], the one that was used, in (y, x) order."""


class AdaFocusTSM(VideoModel):
    """The clip model: 8 frames for the glance, 12 for the focus, each set in the order of time."""

    kind: ClassVar[Kind] = "clip"

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.glance = build_shifted(config.glance, config.glance_frames, config.shift_fraction)
        self.focus = build_shifted(config.focus, config.focus_frames, config.shift_fraction)
        G, L = self.glance.channels, self.focus.channels
        map_size = feature_map_size(self.glance, config.glance_size)
        self.policy = ClipPolicy(G * config.glance_frames, map_size, config.policy_channels, config.clip_policy_widths)
        self.glance_head = nn.Linear(G, config.num_classes)
        self.focus_head = nn.Linear(L, config.num_classes)
        self.glance_auxiliary = nn.Linear(G, config.num_classes)  # training only
        self.focus_auxiliary = nn.Linear(L, config.num_classes)  # training only
        for head in (self.glance_head, self.focus_head, self.glance_auxiliary, self.focus_auxiliary):
            nn.init.normal_(head.weight, std=HEAD_DEVIATION)
            nn.init.zeros_(head.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, glance_frames: Tensor, focus_frames: Tensor, patch_centre: Tensor | None = None
    ) -> ClipModelOutput:
        """Classify a clip.

        Args:
            glance_frames: [B, 8, 3, H, W], normalised.
            focus_frames: [B, 12, 3, H, W], normalised.
            patch_centre: [B, 2] instead of the policy's, in (y, x) order.
        """
        glance = self.glance_part(glance_frames)
        centre = glance.patch_centre if patch_centre is None else patch_centre
        focus = self.focus_part(focus_frames, centre)
        return ClipModelOutput(glance.logits + focus.logits, glance.auxiliary_logits, focus.auxiliary_logits, centre)

    def glance_clip(self, frames: Tensor, *, detach_policy: bool = True) -> GlanceClip:
        """See `VideoModel`; of the K frames the glance sees the first ``config.glance_frames``."""
        part = self.glance_part(frames[:, : self.config.glance_frames], detach_policy=detach_policy)
        return GlanceClip(part.logits[:, None], part.auxiliary_logits[:, None], part.patch_centre[:, None])

    def focus_clip(self, frames: Tensor, glance_features: Tensor, patch_centres: Tensor) -> FocusClip:
        """See `VideoModel`; of the K frames the focus sees those after the glance's."""
        part = self.focus_part(frames[:, self.config.glance_frames :], patch_centres[:, 0])
        return FocusClip(glance_features + part.logits[:, None], part.auxiliary_logits[:, None])

    def learning_parts(self) -> dict[str, tuple[nn.Module, ...]]:
        """See `VideoModel`."""
        return {
            "policy": (self.policy,),
            "glance": (self.glance, self.glance_head, self.glance_auxiliary),
            "focus": (self.focus, self.focus_head, self.focus_auxiliary),
        }

    def released_names(self) -> Mapping[str, tuple[str, ...]]:
        """See `VideoModel`."""
        return clip_names(self)

    def glance_part(self, frames: Tensor, *, detach_policy: bool = True) -> GlanceClipTSM:
        """Glance and policy: [B, 8, 3, H, W]; with ``detach_policy`` its gradient stops before the glance network."""
        T = frames.shape[1]
        images = frames.flatten(0, 1)
        size = self.config.glance_size
        if size != self.config.frame_size:
            images = F.interpolate(images, size=(size, size), mode="bilinear", align_corners=True)
        feature_maps = self.glance(images)  # (B·T, G, h, w)
        policy_input = feature_maps.detach() if detach_policy else feature_maps
        centre = self.policy(by_clip(policy_input, T))
        features = by_clip(self.dropout(spatial_mean(feature_maps)), T)  # (B, T, G)
        logits = self.glance_head(features.detach()).mean(dim=1)  # detached, as released: only the head learns here
        return GlanceClipTSM(logits, self.glance_auxiliary(features).mean(dim=1), centre)

    def focus_part(self, frames: Tensor, patch_centre: Tensor) -> FocusClipTSM:
        """Focus: [B, 12, 3, H, W] and one patch centre for all of them, [B, 2]."""
        T = frames.shape[1]
        centres = patch_centre[:, None].expand(-1, T, -1).flatten(0, 1)  # (B·T, 2)
        patches = crop_patches(frames.flatten(0, 1), centres, self.config.patch_size)
        return self.focus_patches(by_clip(patches, T))

    def focus_patches(self, patches: Tensor) -> FocusClipTSM:
        """``focus_part`` on normalised patches [B, 12, 3, P, P] that are already cut."""
        T = patches.shape[1]
        features = by_clip(self.dropout(spatial_mean(self.focus(patches.flatten(0, 1)))), T)  # (B, T, L)
        logits = self.focus_head(features.detach()).mean(dim=1)
        return FocusClipTSM(logits, self.focus_auxiliary(features).mean(dim=1))

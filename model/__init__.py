"""AdaFocusV2's networks in torch: the frame model and the clip model."""

from __future__ import annotations

from collections.abc import Mapping

from adafocus.model.adafocus import AdaFocus
from adafocus.model.config import PUBLISHED, BackboneConfig, Kind, ModelConfig
from adafocus.model.tsm import AdaFocusTSM
from adafocus.model.video_model import VideoModel

__all__ = ["PUBLISHED", "AdaFocus", "AdaFocusTSM", "BackboneConfig", "ModelConfig", "VideoModel", "build"]


_CLASSES: Mapping[Kind, type[AdaFocus] | type[AdaFocusTSM]] = {model.kind: model for model in (AdaFocus, AdaFocusTSM)}


def build(config: ModelConfig) -> AdaFocus | AdaFocusTSM:
    """The model that a configuration describes, freshly initialised."""
    return _CLASSES[config.kind](config)

"""The networks in torch: AdaFocusV2 for frames, and its clip variant."""

from __future__ import annotations

from model.adafocus import AdaFocus
from model.config import PUBLISHED, BackboneConfig, ModelConfig
from model.tsm import AdaFocusTSM

__all__ = ["PUBLISHED", "AdaFocus", "AdaFocusTSM", "BackboneConfig", "ModelConfig", "build"]


def build(config: ModelConfig) -> AdaFocus | AdaFocusTSM:
    """The model that a configuration describes, freshly initialised."""
    return AdaFocusTSM(config) if config.kind == "clip" else AdaFocus(config)

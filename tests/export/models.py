"""Models that export in seconds: few layers, every path of the graphs."""

from __future__ import annotations

from dataclasses import replace

from adafocus.model.config import BackboneConfig
from tests.model.factory import SMALL_CLIP, SMALL_FRAME

_SHALLOW = BackboneConfig("resnet18", width=0.125, depth=(1, 1))

FRAME = replace(SMALL_FRAME, glance=replace(_SHALLOW, input_size=48), focus=_SHALLOW)
CLIP = replace(SMALL_CLIP, glance=_SHALLOW, focus=_SHALLOW)

"""Which part of a clip runs next: its glances alone where it may exit after them, then its focus, or both together."""

from __future__ import annotations

import numpy as np

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.batch import BatchPart
from adafocus.service.engine.runners.base import Int64
from adafocus.service.engine.scheduler import Bool, most_urgent
from adafocus.service.engine.video_states import VideoStates


class ClipParts:
    """The parts of the clips in flight. All rows of a batch run the same part.

    Args:
        manifest: of the model; one of frames has no parts.
        states: of the videos.
    """

    def __init__(self, manifest: Manifest, states: VideoStates) -> None:
        exits = any(point.glance_thresholds for point in manifest.operating_points)
        self.exist = manifest.sampling.focus_frames is not None and exits
        """Whether clips may exit after their glances; if not, all run whole."""
        self._states = states

    def glances_first(self, slots: Int64) -> Bool:
        """Return which of these clips run their glances alone next, because they may exit after them."""
        states = self._states
        return np.asarray(np.isfinite(states.glance_thresholds[slots, 0]) & ~states.glanced[slots])

    def next_of(self, slots: Int64) -> BatchPart:
        """Return what the next batch of these videos runs; it is the same for all of them."""
        if not self.exist:
            return "whole"
        if self._states.glanced[slots[0]]:
            return "focus"
        return "glance" if self.glances_first(slots[:1])[0] else "whole"

    def with_the_most_urgent(self, slots: Int64) -> Int64:
        """Return the clips that can share a batch with the most urgent one."""
        states = self._states
        part = 2 * states.glanced[slots] + self.glances_first(slots)
        first = most_urgent(states.due[slots], states.arrived[slots], 1)
        together: Int64 = slots[part == part[first]]
        return together

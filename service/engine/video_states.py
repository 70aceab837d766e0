"""The state of all videos in flight, as arrays with one row a slot: what a batch changes is changed at once."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.huge_pages import zeros
from adafocus.service.engine.messages import FINISHED, GLANCE, StepTable, Submit
from adafocus.service.engine.runners.base import BatchOutputs, Float32, Int64, StateWidths
from adafocus.service.engine.scheduler import Float64, due_time

SEGMENT, PLACE, POSITION = range(3)
"""Columns of `VideoStates.frames`."""


FREE, WAITING, READY, RUNNING, LEAVING = range(5)
"""Where a slot stands: FREE → WAITING for a frame → READY → RUNNING → WAITING or READY …, and FREE again.

LEAVING: the video has ended while its batch runs; the slot is free when that is done. Plain numbers, because they are
compared with arrays several times for every batch.
"""


class VideoStates:
    """Arrays whose first dimension is the slot. Recurrent states are zeros when a video starts.

    Letters: N slots, K steps, P frames of a video, C classes, S and F widths of the two states.

    Args:
        slots: N.
        manifest: of the model.
        widths: of the states.
    """

    def __init__(self, slots: int, manifest: Manifest, widths: StateWidths) -> None:
        steps, classes = manifest.steps, len(manifest.labels)
        planned = manifest.sampling.frames + (manifest.sampling.focus_frames or 0)
        self.status = np.full(slots, FREE, dtype=np.int8)
        self.step = np.zeros(slots, dtype=np.int64)
        """Steps finished, which is the index of the next one."""
        self.started = np.zeros(slots, dtype=np.int64)
        """Steps started, finished or not."""
        self.delivered = np.zeros(slots, dtype=np.int64)
        """Frames that have arrived."""
        self.drained = np.zeros(slots, dtype=np.bool_)
        """No further frame will come."""
        self.watched = np.zeros(slots, dtype=np.bool_)
        self.background = np.zeros(slots, dtype=np.bool_)
        self.frames = np.zeros((slots, planned, 3), dtype=np.int64)
        """Of every frame that has arrived: segment, place and position."""
        self.thresholds = np.zeros((slots, steps), dtype=np.float32)
        self.glance_thresholds = np.full((slots, steps), np.inf, dtype=np.float32)
        self.after_glance = np.zeros(slots, dtype=np.bool_)
        """The last step ended the video before its focus."""
        self.glanced = np.zeros(slots, dtype=np.bool_)
        """The glances of a clip have run and were not enough; what they left is kept for the focus."""
        self.glance_feature = np.zeros((slots, 0), dtype=np.float32)
        """Taken when the first clip needs it, because its width is the network's."""
        self.certain = np.ones((slots, steps), dtype=np.int64)
        self.affordable = np.zeros(slots, dtype=np.int64)
        self.arrived = np.zeros(slots, dtype=np.float64)
        self.deadline = np.full(slots, np.inf, dtype=np.float64)
        self.due = np.zeros(slots, dtype=np.float64)
        self.ready_since = np.zeros(slots, dtype=np.float64)
        self.policy: Float32 = zeros((slots, widths.policy), np.float32, resident=True)
        self.pooled: Float32 = zeros((slots, widths.pooled), np.float32, resident=True)
        self.patch_centres = np.zeros((slots, steps, 2), dtype=np.float32)
        self.logits = np.zeros((slots, steps, classes), dtype=np.float32)
        self.confidences = np.zeros((slots, steps), dtype=np.float32)
        self.seconds = np.zeros((slots, steps, 4), dtype=np.float64)
        """Columns: `QUEUE`, `GLANCE`, `FOCUS` and `FINISHED`."""
        # Views of the same memory with slot and step as one index.
        self._each_centre = self.patch_centres.reshape(-1, 2)
        self._each_logits = self.logits.reshape(-1, classes)
        self._each_confidence = self.confidences.reshape(-1)
        self._each_times = self.seconds.reshape(-1, FINISHED + 1)

    def start(self, request: Submit) -> None:
        """Put a video into its slot, which is free: nothing of the one before stays."""
        slot, steps = request.slot, self.thresholds.shape[1]
        self.status[slot] = WAITING
        self.step[slot] = self.started[slot] = self.delivered[slot] = 0
        self.drained[slot] = False
        self.watched[slot] = request.watched
        self.background[slot] = request.background
        self.thresholds[slot] = _floats(request.thresholds)
        self.glance_thresholds[slot] = _floats(request.glance_thresholds) if request.glance_thresholds else np.inf
        self.after_glance[slot] = self.glanced[slot] = False
        self.certain[slot] = _integers(request.certain or (1,) * steps)
        self.affordable[slot] = request.affordable
        self.arrived[slot] = request.arrived
        self.deadline[slot] = request.deadline
        self.due[slot] = due_time(request.arrived, request.deadline)
        self.seconds[slot] = 0.0
        self.policy[slot] = 0.0
        self.pooled[slot] = 0.0

    def free(self, slots: Int64) -> None:
        """Let slots be used again."""
        self.status[slots] = FREE
        self.deadline[slots] = np.inf

    def deliver(self, table: Int64) -> Int64:
        """Take frames in, as `Commands.frame_table` tells of them; returns their slots."""
        slots, rank = table[:, 0], table[:, 1]
        self.frames[slots, rank] = table[:, 2:]
        self.delivered[slots] = rank + 1  # of several frames of a video, the last one counts
        return slots

    def available(self, slot: int, most: int) -> int:
        """How many steps of a frame model's video could run now: certain to run, with their frames there."""
        step = int(self.step[slot])
        return min(int(self.certain[slot, step]), most, int(self.delivered[slot]) - step)

    def hungry(self, slots: Int64) -> bool:
        """Whether any of these videos may get further frames."""
        return bool((self.delivered[slots] < self.frames.shape[1]).any())

    def finish_step(
        self, slots: Int64, step: Int64, outputs: BatchOutputs, confidences: Float32, seconds: Float64, now: float
    ) -> None:
        """Store what one step left in each of the slots; the one after it is next.

        Args:
            slots: ``[B]``, each once.
            step: ``[B]``, index of the step of each.
            outputs: ``[B, …]``.
            confidences: ``[B]``, NaN where nobody needs to know yet.
            seconds: ``[B, 2]`` or ``[1, 2]``: glance and focus.
            now: when the step finished.
        """
        each = slots * self.thresholds.shape[1] + step  # one index is looked up faster than two
        self._each_logits[each] = outputs.logits
        self._each_confidence[each] = confidences
        self._each_centre[each] = outputs.patch_centre
        self.policy[slots] = outputs.policy_state
        self.pooled[slots] = outputs.pooled_state
        times = self._each_times[each]
        times[:, GLANCE:FINISHED] += seconds
        times[:, FINISHED] = now
        self._each_times[each] = times
        self.step[slots] = step + 1

    def keep_glance(self, slots: Int64, outputs: BatchOutputs, seconds: Float64) -> None:
        """Keep what the glances of clips left, whose focus is next.

        Args:
            slots: ``[B]``, each once.
            outputs: ``[B, …]``, with the glance feature.
            seconds: ``[B, 2]`` or ``[1, 2]``.
        """
        feature = outputs.feature
        if feature is None:
            raise ValueError("the glances of clips leave a feature for the focus")
        if not self.glance_feature.shape[1]:
            self.glance_feature = np.zeros((len(self.glanced), feature.shape[1]), dtype=np.float32)
        self.glanced[slots] = True
        self.glance_feature[slots] = feature
        self.patch_centres[slots, 0] = outputs.patch_centre
        self.seconds[slots, 0, GLANCE:FINISHED] += seconds

    def step_table(self, slot: int, first: int = 0) -> StepTable:
        """Copies of what the finished steps of a video left, from one of them on."""
        steps = slice(first, int(self.step[slot]))
        return StepTable(
            self.patch_centres[slot, steps].copy(),
            self.logits[slot, steps].copy(),
            self.confidences[slot, steps].copy(),
            self.seconds[slot, steps].copy(),
            bool(self.after_glance[slot]),
        )


@lru_cache(maxsize=256)
def _floats(row: tuple[float, ...]) -> npt.NDArray[np.float32]:
    return np.array(row, dtype=np.float32)


@lru_cache(maxsize=256)
def _integers(row: tuple[int, ...]) -> Int64:
    return np.array(row, dtype=np.int64)

"""Memory in which batches are put together: taken once, so that a device can be bound to it, and used in turns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.batch import Batch
from adafocus.service.engine.frames import gather, nearest_positions
from adafocus.service.engine.huge_pages import zeros
from adafocus.service.engine.runners.base import Float32, Int64, Runner, UInt8
from adafocus.service.engine.video_states import PLACE, POSITION, SEGMENT, VideoStates
from adafocus.service.frame_memory import FrameSegment


class Staging:
    """The inputs of one batch at a time, at the same addresses for every batch.

    A batch of B rows is the first B rows of the buffers, padded with zero rows to a size that the runner has planned.

    Args:
        manifest: of the model.
        runner: whose batches are put together here.
        max_batch: rows of the largest batch.
    """

    def __init__(self, manifest: Manifest, runner: Runner, max_batch: int) -> None:
        side, sampling, widths = manifest.geometry.crop, manifest.sampling, runner.widths
        self._runner = runner
        size = max(max_batch, runner.look_ahead, runner.padded(max_batch))
        square = (side, side, 3)
        self._clip = sampling.focus_frames is not None
        glance_shape = (size, sampling.frames, *square) if self._clip else (size, *square)
        self._glance_frames: UInt8 = zeros(glance_shape, np.uint8)
        self._focus_frames = self._glance_frames
        if sampling.focus_frames is not None:
            self._focus_frames = zeros((size, sampling.focus_frames, *square), np.uint8)
        self._policy: Float32 = zeros((size, widths.policy), np.float32)
        self._pooled: Float32 = zeros((size, widths.pooled), np.float32)
        self._step: Int64 = np.zeros(size, dtype=np.int64)
        self._dirty = 0  # rows that are not zero

    def buffers(self) -> tuple[UInt8 | Float32 | Int64, ...]:
        """All memory that batches lie in, for a runner that binds it."""
        focus = () if self._focus_frames is self._glance_frames else (self._focus_frames,)
        return (self._glance_frames, *focus, self._policy, self._pooled, self._step)

    def step_of_each(
        self, slots: Int64, steps: Int64, states: VideoStates, segments: Mapping[int, FrameSegment]
    ) -> Batch:
        """A batch of one step of every slot, which is its next one."""
        rows, size = len(slots), self._runner.padded(len(slots))
        if self._clip:
            for row, slot in enumerate(slots.tolist()):
                self._gather_clip(row, slot, states, segments)
        else:
            frames = states.frames[slots, steps]
            gather(self._glance_frames[:rows], segments, frames[:, SEGMENT], frames[:, PLACE])
        np.take(states.policy, slots, axis=0, out=self._policy[:rows], mode="clip")
        np.take(states.pooled, slots, axis=0, out=self._pooled[:rows], mode="clip")
        self._step[:rows] = steps
        self._clear(rows, size)
        return self._batch(rows, size, size)

    def steps_of_one(self, slot: int, count: int, states: VideoStates, segments: Mapping[int, FrameSegment]) -> Batch:
        """A batch of several steps of one slot, the runner pads it."""
        first = int(states.step[slot])
        steps = slice(first, first + count)
        frames = states.frames[slot, steps]
        gather(self._glance_frames[:count], segments, frames[:, SEGMENT], frames[:, PLACE])
        self._policy[0] = states.policy[slot]
        self._pooled[0] = states.pooled[slot]
        self._step[:count] = np.arange(first, first + count)
        self._dirty = max(self._dirty, count)
        return self._batch(count, count, 1)

    def _batch(self, rows: int, size: int, states: int) -> Batch:
        glance = self._glance_frames[:size]
        focus = self._focus_frames[:size] if self._clip else glance
        return Batch(rows, glance, focus, self._policy[:states], self._pooled[:states], self._step[:size])

    def _gather_clip(self, row: int, slot: int, states: VideoStates, segments: Mapping[int, FrameSegment]) -> None:
        """All frames of a clip; one that could not be decoded is replaced by its neighbour."""
        have = states.frames[slot, : int(states.delivered[slot])]
        glance, focus = self._glance_frames[row], self._focus_frames[row]
        chosen = nearest_positions(have[:, POSITION], len(glance), len(glance) + len(focus))
        numbers, places = have[chosen, SEGMENT], have[chosen, PLACE]
        gather(glance, segments, numbers[: len(glance)], places[: len(glance)])
        gather(focus, segments, numbers[len(glance) :], places[len(glance) :])

    def _clear(self, rows: int, size: int) -> None:
        """Zero the padding where an earlier batch has left something."""
        if self._dirty > rows:
            dirty = slice(rows, min(size, self._dirty))
            for buffer in self.buffers():
                buffer[dirty] = 0
        self._dirty = max(rows, self._dirty if self._dirty > size else rows)

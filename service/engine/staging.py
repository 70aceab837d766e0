"""Memory in which batches are put together: taken once, so that a device can be bound to it, and used in turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.batch import Batch, BatchPart
from adafocus.service.engine.frames import gather, nearest_positions, side_by_side
from adafocus.service.engine.huge_pages import zeros
from adafocus.service.engine.runners.base import Float32, FrameFetcher, FramePlaces, GlanceOutput, Int64, Runner, UInt8
from adafocus.service.engine.video_states import PLACE, POSITION, SEGMENT, VideoStates
from adafocus.service.frame_memory import FrameSegment


class Staging:
    """The inputs of one batch at a time, at the same addresses for every batch.

    A batch of B rows is the first B rows of the buffers, padded with zero rows to a size that the runner has planned.

    Args:
        manifest: of the model.
        runner: whose batches are put together here.
        max_batch: rows of the largest batch.
        segments: in which frames lie, by number; grows and shrinks.
    """

    def __init__(
        self, manifest: Manifest, runner: Runner, max_batch: int, segments: Mapping[int, FrameSegment]
    ) -> None:
        side, sampling, widths = manifest.geometry.crop, manifest.sampling, runner.widths
        self._runner = runner
        self._segments = segments
        self._fetches = isinstance(runner, FrameFetcher)
        size = max(max_batch, runner.look_ahead, runner.padded(max_batch))
        square = (side, side, 3)
        self._clip = sampling.focus_frames is not None
        glance_shape = (size, sampling.frames, *square) if self._clip else (size, *square)
        self._glance_frames: UInt8 = zeros(glance_shape, np.uint8)
        self._focus_frames = self._glance_frames
        if sampling.focus_frames is not None:
            self._focus_frames = zeros((size, sampling.focus_frames, *square), np.uint8)
        self._policy: Float32 = zeros((size, widths.policy), np.float32, resident=True)
        self._pooled: Float32 = zeros((size, widths.pooled), np.float32, resident=True)
        self._step: Int64 = np.zeros(size, dtype=np.int64)
        self._dirty = 0  # rows that are not zero
        self._cleared = self.buffers()[self._fetches and not self._clip :]

    def buffers(self) -> tuple[UInt8 | Float32 | Int64, ...]:
        """All memory that batches lie in, for a runner that binds it."""
        focus = () if self._focus_frames is self._glance_frames else (self._focus_frames,)
        return (self._glance_frames, *focus, self._policy, self._pooled, self._step)

    def step_of_each(self, slots: Int64, steps: Int64, states: VideoStates, part: BatchPart = "whole") -> Batch:
        """A batch of one step of every slot, which is its next one."""
        rows, size = len(slots), self._runner.padded(len(slots))
        frames, where = None, None
        if self._clip:
            for row, slot in enumerate(slots.tolist()):
                self._gather_clip(row, slot, states, part)
        else:
            frames, where = self._gather(states.frames[slots, steps], of_one=rows == size == 1)
        np.take(states.policy, slots, axis=0, out=self._policy[:rows], mode="clip")
        np.take(states.pooled, slots, axis=0, out=self._pooled[:rows], mode="clip")
        self._step[:rows] = steps
        self._clear(rows, size)
        batch = self._batch(rows, size, size, frames, where)
        if part == "whole":
            return batch
        return replace(batch, part=part, known=self._known(slots, size, states) if part == "focus" else None)

    def _known(self, slots: Int64, size: int, states: VideoStates) -> GlanceOutput:
        """Return what the glances of clips have left, padded with zeros."""
        feature = np.zeros((size, states.glance_feature.shape[1]), dtype=np.float32)
        centre = np.zeros((size, 2), dtype=np.float32)
        feature[: len(slots)] = states.glance_feature[slots]
        centre[: len(slots)] = states.patch_centres[slots, 0]
        return GlanceOutput(feature, centre, self._policy[:size])

    def steps_of_one(self, slot: int, count: int, states: VideoStates) -> Batch:
        """A batch of several steps of one slot, the runner pads it."""
        first = int(states.step[slot])
        steps = slice(first, first + count)
        frames, where = self._gather(states.frames[slot, steps], of_one=True)
        self._policy[0] = states.policy[slot]
        self._pooled[0] = states.pooled[slot]
        self._step[:count] = np.arange(first, first + count)
        self._dirty = max(self._dirty, count)
        return self._batch(count, count, 1, frames, where)

    def _batch(self, rows: int, size: int, states: int, frames: UInt8 | None, where: FramePlaces | None) -> Batch:
        glance = self._glance_frames[:size] if frames is None else frames
        focus = self._focus_frames[:size] if self._clip else glance
        policy, pooled = self._policy[:states], self._pooled[:states]
        in_place = frames is not None
        return Batch(rows, glance, focus, policy, pooled, self._step[:size], where, self._segments, in_place=in_place)

    def _gather(self, frames: Int64, *, of_one: bool) -> tuple[UInt8 | None, FramePlaces | None]:
        """Copy frames into the batch, or return them as they lie, or where they lie if the runner fetches them.

        Args:
            frames: ``[B, 3]``, of the rows.
            of_one: whether all are of one video and nothing follows them. Only then may they be read as they lie: a
                video that is ended before its batch gives its places back, and spoils no other video's row.
        """
        where = FramePlaces(frames[:, SEGMENT], frames[:, PLACE])
        if self._fetches:
            return None, where
        lying = side_by_side(self._segments, where) if of_one else None
        if lying is None:
            gather(self._glance_frames[: len(frames)], self._segments, where)
        return lying, None

    def _gather_clip(self, row: int, slot: int, states: VideoStates, part: BatchPart) -> None:
        """The frames of a clip that a batch needs; one that could not be decoded is replaced by its neighbour."""
        have = states.frames[slot, : int(states.delivered[slot])]
        glance, focus = self._glance_frames[row], self._focus_frames[row]
        chosen = have[nearest_positions(have[:, POSITION], len(glance), len(glance) + len(focus))]
        for out, frames, other in ((glance, chosen[: len(glance)], "focus"), (focus, chosen[len(glance) :], "glance")):
            if part != other:
                gather(out, self._segments, FramePlaces(frames[:, SEGMENT], frames[:, PLACE]))

    def _clear(self, rows: int, size: int) -> None:
        """Zero the padding where an earlier batch has left something."""
        if self._dirty > rows:
            dirty = slice(rows, min(size, self._dirty))
            for buffer in self._cleared:
                buffer[dirty] = 0
        self._dirty = max(rows, self._dirty if self._dirty > size else rows)

"""How frames become steps: a frame model takes one frame a step, a clip model takes all of them at once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from bundle.manifest import Manifest
from service.engine.request import Row
from service.engine.runners.base import UInt8
from video.decoder import Frame

LOOK_AHEAD_CHANCE = 0.5
"""The next frame is pulled while a step runs if the video goes on after it with at least this chance.

Pulled early it costs nobody time; pulled for a video that then leaves it has been decoded in vain, and decoding is most
of what a small model's answer costs.
"""


class FrameIntake(Protocol):
    """What a model kind means for a row's inbox."""

    def full(self, row: Row) -> bool:
        """Whether to pull no further frame for now."""

    def complete(self, row: Row) -> bool:
        """Whether the next step has all it needs."""

    def at_once(self, row: Row) -> int:
        """How many steps could run now, with the frames that are there."""

    def pixels(self, row: Row, later: int = 0) -> tuple[UInt8, UInt8]:
        """What the glance and the focus see, of the next step or of one so many later."""

    def take(self, row: Row) -> Frame:
        """Remove the frames of the finished step; returns the one that stands for it in the trace."""

    def fell_short(self, row: Row) -> bool:
        """Whether the last step had fewer frames than planned."""


class FrameByFrame:
    """One frame, seen by glance and focus alike.

    Args:
        most: steps of one video that may run at once.
        per_step_flops: of the model.
    """

    def __init__(self, most: int, per_step_flops: int) -> None:
        self._most = most
        self._per_step_flops = per_step_flops

    def full(self, row: Row) -> bool:
        """Holds the frame of the step at hand, and the one after it where the video will probably get there.

        Where several steps run at once, the frames of those and of as many after them that are certain to run.
        """
        chances = row.request.continues
        goes_on = not chances or chances[min(row.step, len(chances) - 1)] >= LOOK_AHEAD_CHANCE
        return len(row.inbox) >= max(2 if goes_on else 1, min(self._certain(row), 2 * self._most))

    def at_once(self, row: Row) -> int:
        """As many as are certain to run and have their frames."""
        return min(self._certain(row), self._most, len(row.inbox))

    def _certain(self, row: Row) -> int:
        if self._most == 1 or not row.request.look_ahead:
            return 1
        return row.request.certain_steps(row.step, self._per_step_flops)

    def complete(self, row: Row) -> bool:
        """See :class:`FrameIntake`."""
        return bool(row.inbox)

    def pixels(self, row: Row, later: int = 0) -> tuple[UInt8, UInt8]:
        """``[H, W, 3]`` twice."""
        return row.inbox[later].pixels, row.inbox[later].pixels

    def take(self, row: Row) -> Frame:
        """See :class:`FrameIntake`."""
        frame = row.inbox.popleft()
        row.frames_seen.add(frame.index)
        row.room.set()
        return frame

    def fell_short(self, row: Row) -> bool:
        """Never: a step without its frame does not run."""
        return False


class WholeClip:
    """All glance frames and all focus frames in one step; one that could not be decoded is filled by its neighbour.

    Args:
        glance_frames: frames of the glance, first in visiting order.
        focus_frames: frames of the focus, after them.
    """

    def __init__(self, glance_frames: int, focus_frames: int) -> None:
        self._glance_frames = glance_frames
        self._total = glance_frames + focus_frames

    def full(self, row: Row) -> bool:
        """See :class:`FrameIntake`."""
        return len(row.inbox) >= self._total

    def complete(self, row: Row) -> bool:
        """See :class:`FrameIntake`."""
        return len(row.inbox) == self._total or (row.drained and bool(row.inbox))

    def at_once(self, row: Row) -> int:
        """The one step that there is."""
        return 1

    def pixels(self, row: Row, later: int = 0) -> tuple[UInt8, UInt8]:
        """``[glance frames, H, W, 3]`` and ``[focus frames, H, W, 3]``."""
        have = {frame.position: frame.pixels for frame in row.inbox}
        filled = [have[self._nearest(wanted, have)] for wanted in range(self._total)]
        return np.stack(filled[: self._glance_frames]), np.stack(filled[self._glance_frames :])

    def _nearest(self, wanted: int, have: Iterable[int]) -> int:
        """The position that stands in for one: of the same network if it has any, else of the other."""
        of_glance = wanted < self._glance_frames
        return min(have, key=lambda known: ((known < self._glance_frames) != of_glance, abs(known - wanted)))

    def take(self, row: Row) -> Frame:
        """See :class:`FrameIntake`."""
        frame = row.inbox[0]
        row.frames_seen.update(known.index for known in row.inbox)
        return frame

    def fell_short(self, row: Row) -> bool:
        """See :class:`FrameIntake`."""
        return len(row.inbox) < self._total


def intake_for(manifest: Manifest, most: int) -> FrameIntake:
    """The intake of the manifest's model kind, of which so many steps of one video may run at once."""
    if manifest.sampling.focus_frames is None:
        return FrameByFrame(most, manifest.flops.per_step)
    return WholeClip(manifest.sampling.frames, manifest.sampling.focus_frames)

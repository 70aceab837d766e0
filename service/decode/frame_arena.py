"""The memory in which decoded frames wait: a bounded number of segments, one for each video at a time.

A segment belongs to a video and not to the worker that fills it. So a worker is free for its next video as soon as it
has delivered, while the frames wait for the engine; and frames outlive a worker that dies. No worker is given the
memory of a video that it does not decode, and no memory serves two callers: a worker that was taken over could have
kept it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from adafocus.service.decode.idle_queue import IdleQueue
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.errors import Problem


class FrameArena:
    """Lends segments, which it makes when they are first needed and keeps until it is closed.

    Args:
        segments: number of segments at most, but for `spare`.
        slots: frames in each.
        crop: side of the largest frame, pixels.
    """

    def __init__(self, segments: int, slots: int, crop: int) -> None:
        self._limit = segments
        self._slots = slots
        self._crop = crop
        self._idle: IdleQueue[SharedFrames] = IdleQueue()
        self._owners: dict[SharedFrames, str] = {}
        self._returned: dict[SharedFrames, int] = {}
        self._clock = itertools.count()
        self._closed = False

    @property
    def waiting(self) -> int:
        """Number of videos that wait for a segment."""
        return self._idle.waiting

    @property
    def lent(self) -> int:
        """Number of segments that are in use."""
        return len(self._owners) - self._idle.idle

    async def take(self, caller: str = "") -> SharedFrames:
        """Return a segment for a video of this caller; waits until there is one.

        Raises:
            OSError: the memory cannot be allocated.
            Problem: the arena was closed with this problem.
        """
        if not self._idle.idle and len(self._owners) < self._limit and not self._closed:
            return self.spare(caller)
        frames = await self._idle.take(lambda idle: self._rank(idle, caller))
        if self._owners[frames] == caller:
            return frames
        self._forget(frames)
        return self.spare(caller)

    def spare(self, caller: str = "") -> SharedFrames:
        """Return a new segment though there may be as many as allowed: for a video that holds one and must not wait.

        Raises:
            OSError: the memory cannot be allocated.
        """
        frames = SharedFrames.create(self._slots, self._crop)
        self._owners[frames] = caller
        return frames

    def put(self, frames: SharedFrames) -> None:
        """Take a segment back into which nobody writes and which nobody reads."""
        if self._closed or len(self._owners) > self._limit:
            self._forget(frames)
        else:
            self._returned[frames] = next(self._clock)
            self._idle.put(frames)

    def close(self, problem: Problem) -> None:
        """Give back what is idle, and the rest when it is put back; whoever waits fails. May be called again."""
        self._closed = True
        for frames in self._idle.close(problem):
            self._forget(frames)

    def _rank(self, idle: SharedFrames, caller: str) -> tuple[bool, int]:
        """Prefer the caller's own, and of them the one used last: its pages are in the caches and mapped in decoders.

        Of the others, the one that has been idle for longest gives way.
        """
        others = self._owners[idle] != caller
        return others, self._returned[idle] if others else -self._returned[idle]

    def _forget(self, frames: SharedFrames) -> None:
        self._owners.pop(frames, None)
        self._returned.pop(frames, None)
        frames.close()


@dataclass(slots=True, eq=False)
class Lease:
    """A segment while one worker fills it for one video, and until its frames have been read.

    Attributes:
        frames: the segment.
        give_back: called once with the segment when it is free.
        held: slots that hold frames, and into which the worker must not write.
        unread: of them, those whose frames somebody still needs.
    """

    frames: SharedFrames
    give_back: Callable[[SharedFrames], None]
    held: set[int] = field(default_factory=set)
    unread: set[int] = field(default_factory=set)
    _written: bool = False
    _returned: bool = False

    def read(self, slot: int) -> None:
        """Record that nobody needs a frame any more. May be called again."""
        self.unread.discard(slot)
        self._end()

    def written(self) -> None:
        """Record that the worker writes no more. May be called again."""
        self._written = True
        self._end()

    def _end(self) -> None:
        if self._written and not self.unread and not self._returned:
            self._returned = True
            self.give_back(self.frames)

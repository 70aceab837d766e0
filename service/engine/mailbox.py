"""What other threads tell the core's loop, and when the loop has to wake for it.

While the device runs a batch, a frame that has come changes nothing: the loop wakes when the batch is done, and takes
everything in then. Waking it for every frame would cost as much as taking the frame in, and the threads of a process
hand the interpreter's lock to each other for it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from queue import Empty, SimpleQueue

from adafocus.service.engine.device import Done
from adafocus.service.engine.messages import FRAME_FIELDS, Commands
from adafocus.service.frame_memory import FrameSegment

LONGEST_WAIT_SECONDS = 60.0
"""The loop wakes at least so often, which costs nothing and needs no limit of the platform."""


class Mailbox:
    """Takes messages from any thread for the one that calls `wait`. Commands come from one thread at a time."""

    def __init__(self) -> None:
        self._letters: deque[tuple[Commands, float] | FrameSegment | int] = deque()  # in the order of posting
        self._events: SimpleQueue[Done | bool | None] = SimpleQueue()
        self._posted = 0  # numbers about frames, so far
        self._taken = 0  # of them, those that the loop has taken in
        self._wanted_frames = 0.0
        self._wanted_deadline = math.inf

    def post(self, commands: Commands, *, wake: bool = True) -> None:
        """Have commands carried out.

        Args:
            commands: what is to be done.
            wake: as soon as it can make a difference. If not, when the loop wakes for another reason.
        """
        self._posted += len(commands.frames)
        self._letters.append((commands, time.monotonic()))  # before it is decided who wakes the loop
        if wake and (self._ends_something(commands) or self._has_wanted_frames()):
            self._events.put(True)

    def wake(self) -> None:
        """Have commands carried out that were posted without waking the loop, as soon as that makes a difference."""
        if self._letters and self._has_wanted_frames():
            self._events.put(True)

    def attach(self, segment: FrameSegment) -> None:
        """Make a segment known whose frames commands that are posted later name."""
        self._letters.append(segment)

    def detach(self, number: int) -> None:
        """Have a segment forgotten in which no frame is waiting."""
        self._letters.append(number)

    def done(self, done: Done) -> None:
        """Tell of a batch that the device has finished."""
        self._events.put(done)

    def close(self) -> None:
        """Have `wait` return None."""
        self._events.put(None)

    @property
    def has_event(self) -> bool:
        """Whether `wait` would return at once."""
        return not self._events.empty()

    def expect(self, frames: float, deadline: float) -> None:
        """Say what the loop has to wake for; the device and the ends of videos wake it anyway.

        Args:
            frames: so many further frames; 0 for whatever is posted.
            deadline: a video that has to end before this time, in seconds.
        """
        self._wanted_frames, self._wanted_deadline = frames, deadline
        if self._letters:  # they may have been posted when something else was wanted
            self._events.put(True)

    def wait(self, until: float) -> list[Done] | None:
        """Wait for something to do, until a time in seconds; returns the finished batches, or None once closed."""
        done: list[Done] = []
        try:
            event = self._events.get(timeout=min(LONGEST_WAIT_SECONDS, max(0.0, until - time.monotonic())))
            while event is not None:
                if isinstance(event, Done):
                    done.append(event)
                event = self._events.get_nowait()
        except Empty:
            return done
        return None

    def take(self) -> tuple[Commands, float] | FrameSegment | int | None:
        """The next letter: commands with the time when they were posted, a new segment, or the number of an old one."""
        if not self._letters:
            return None
        letter = self._letters.popleft()
        if isinstance(letter, tuple):
            self._taken += len(letter[0].frames)
        return letter

    def _has_wanted_frames(self) -> bool:
        return self._posted - self._taken >= self._wanted_frames * FRAME_FIELDS

    def _ends_something(self, commands: Commands) -> bool:
        if commands.drained or commands.cancelled:
            return True
        deadline = self._wanted_deadline
        return any(request.deadline < deadline for request in commands.submitted)

"""A video in flight, as its client sees it: what was asked, which frames were handed over, and how far it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from adafocus.service.engine.messages import Submit
from adafocus.service.engine.request import EngineRequest, Outcome
from adafocus.service.frame_memory import SharedFrame


@dataclass(slots=True, eq=False)
class Video:
    """A video in flight, as its client sees it.

    Attributes:
        request: what was asked.
        slot: at the core.
        finished: its answer, or why there is none.
        planned: frames that the model uses at most.
        prefetch: for every step, how many frames to hold that no finished step has used.
        delivered: index and time of every frame that was handed over, in this order.
        held: frames that the core has not read yet, the oldest first.
        released: frames that it has read.
        steps: steps that have finished.
        left: takes no further frame: the core has ended it, or has been told to.
        overdue: runs out when the core should have ended it long ago.
        feed: called when further frames may be wanted.
        untold: what the core is to be told of it with its first frame; None once it has been.
    """

    request: EngineRequest
    slot: int
    finished: asyncio.Future[Outcome]
    planned: int
    prefetch: tuple[int, ...]
    delivered: list[tuple[int, float | None]] = field(default_factory=list)
    held: deque[SharedFrame] = field(default_factory=deque)
    released: int = 0
    steps: int = 0
    left: bool = False
    overdue: asyncio.TimerHandle | None = None
    feed: Callable[[], None] = lambda: None
    untold: Submit | None = None

    @property
    def complete(self) -> bool:
        """Whether it has all frames that the model uses, or takes no more."""
        return self.left or len(self.delivered) == self.planned

    @property
    def frames_wanted(self) -> int:
        """How many further frames should be pulled now."""
        if self.left:
            return 0
        prefetch, steps, have = self.prefetch, self.steps, len(self.delivered)
        return min(self.planned - have, prefetch[steps if steps < len(prefetch) else -1] + steps - have)

    def release(self, count: int) -> None:
        """Give back the frames that have been read: so many of all that were delivered."""
        held = self.held
        for _ in range(min(count - self.released, len(held))):
            self.released += 1
            held.popleft().release()

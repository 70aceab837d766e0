"""Shadow runs: a share of videos is classified again without an early exit, after they were answered.

They measure what no label is needed for: how often an early exit changes the answer. They run in the background, few at
a time, and hold the slot of their video meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Protocol

from adafocus.service.engine.shadow_evidence import ShadowEvidence
from adafocus.service.errors import Problem

logger = logging.getLogger("adafocus.shadows")

MOST = 1
"""Shadow runs at a time; a video that comes meanwhile has none."""


class ShadowObserver(Protocol):
    """Receives each comparison; metrics implement it."""

    def shadow_compared(self, agrees: bool, factor: float) -> None:
        """Take in whether an early answer was that of all steps, and what this multiplies the evidence by."""


class Background:
    """Work that goes on after an answer, one at a time; a problem of it is nobody's."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    @property
    def busy(self) -> bool:
        """Whether no more may be begun now."""
        return len(self._running) >= MOST

    def run(self, work: Coroutine[None, None, None]) -> None:
        """Run one in the background."""
        task = asyncio.create_task(self._logged(work))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def settled(self) -> None:
        """Wait until none is running."""
        await asyncio.gather(*self._running)

    async def close(self) -> None:
        """Cancel those that are running."""
        await asyncio.sleep(0)  # one that has not begun could not give back what it holds
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _logged(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except Problem as problem:  # the video was answered; a shadow run that fails measures nothing
            logger.info("a shadow run failed: %s", problem.detail)


class Shadows(Background):
    """The shadow runs of a service.

    Args:
        share: of the answers after an early exit that have one.
        observer: told of each comparison.
        evidence: about each operating point.
        chance: gives a number in 0..1 for each answer.
    """

    def __init__(
        self,
        share: float,
        observer: ShadowObserver,
        evidence: ShadowEvidence,
        chance: Callable[[], float] = random.random,
    ) -> None:
        super().__init__()
        self._share = share
        self._observer = observer
        self._evidence = evidence
        self._chance = chance
        self._told = 1.0

    def wants_another(self) -> bool:
        """Return whether the next answer after an early exit should have a shadow run. Draws lots."""
        return self._share > 0 and not self.busy and self._chance() < self._share

    def compared(self, point: str, *, agrees: bool) -> None:
        """Count the result of one."""
        evidence = self._evidence.take(point, agrees=agrees)
        self._observer.shadow_compared(agrees, evidence / self._told)
        self._told = evidence

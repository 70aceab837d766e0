"""An event loop whose clock jumps to the next timer instead of waiting, for simulations."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

Result = TypeVar("Result")


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type] # depends on the platform
    """Waits for nothing: the time that it should wait has passed when it returns."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """See `selectors.BaseSelector.select`.

        Raises:
            RuntimeError: nothing would ever happen.
        """
        if timeout is None:
            raise RuntimeError("every task waits, and no timer is set")
        self.now += max(0.0, timeout)
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own, which starts at 0."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Seconds that have passed in the simulation."""
        return self._jumping.now + 1e-9  # a timer that is due now must not be missed by rounding


def simulate(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine in virtual time, and return its result."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(work)
    finally:
        loop.close()

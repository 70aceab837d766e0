"""Who runs next: pure functions over what is waiting, tested without a clock, a device or a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

PATIENCE_SECONDS = 10.0
"""A video without a deadline counts as due this long after it arrived. So an urgent one passes it, but a stream of
urgent ones cannot hold it back for ever: sooner or later it is the earliest."""


class Claim(Protocol):
    """What the scheduler needs to know of a candidate."""

    @property
    def arrived(self) -> float:
        """When it came, in event-loop seconds."""

    @property
    def deadline(self) -> float | None:
        """When its answer is due, or None."""


ClaimT = TypeVar("ClaimT", bound=Claim)


def urgency(claim: Claim) -> tuple[float, float]:
    """The sort key of the policy, smaller is sooner: earliest deadline first, then first come first served."""
    due = claim.arrived + PATIENCE_SECONDS
    return (due if claim.deadline is None else min(claim.deadline, due), claim.arrived)


def steps_of(*, alone: bool, at_once: int) -> int:
    """How many steps of a video run in one batch: several only if no other video waits.

    With others in the batch a step costs as little without looking ahead, and those who come meanwhile wait for one
    step only.
    """
    return max(1, at_once) if alone else 1


def next_rows(candidates: Sequence[ClaimT], places: int) -> list[ClaimT]:
    """The most urgent candidates, as many as there are places, in order of urgency; ties keep their order."""
    return sorted(candidates, key=urgency)[: max(0, places)]

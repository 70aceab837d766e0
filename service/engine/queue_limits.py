"""Limits on what admission lets in, of one process and of several that share their places."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Places(Protocol):
    """The places of a service that has several processes; they take them from one another."""

    def take(self) -> bool:
        """Take a place; False if none is free."""

    def give_back(self) -> None:
        """Give one back."""


class Unlimited:
    """Stands for places that no other process takes: this one counts them itself."""

    def take(self) -> bool:
        """Return True."""
        return True

    def give_back(self) -> None:
        """Do nothing."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What admission permits beyond the numbers of slots and of queue places.

    Attributes:
        queue_seconds: longest time that a request may be expected to wait for a slot.
        uploads: bodies that may be arriving at once.
        uploads_per_caller: of them, of one caller.
        reserve: slots beyond ``slots`` for callers that hold none while all are taken.
    """

    queue_seconds: float = float("inf")
    uploads: int = 1 << 30
    uploads_per_caller: int = 1 << 30
    reserve: int = 0

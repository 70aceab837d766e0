"""What a pool of decode workers is made of, and who is told of its fortunes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from service.decode.watchdog import WorkerTimeouts

RestartReason = Literal["crashed", "timeout", "memory", "protocol"]
"""Why a worker was replaced."""


class PoolObserver(Protocol):
    """What the pool reports as it happens; metrics implement it."""

    def decode_workers(self, count: int) -> None:
        """Workers alive now."""

    def decode_worker_restarted(self, reason: RestartReason) -> None:
        """A worker was replaced, or is about to be."""


class Unobserved:
    """An observer that looks away."""

    def decode_workers(self, count: int) -> None:
        """Nothing."""

    def decode_worker_restarted(self, reason: RestartReason) -> None:
        """Nothing."""


@dataclass(frozen=True)
class PoolSettings:
    """What a pool is made of.

    Attributes:
        workers: processes, one video at a time each.
        crop: side of the largest square that a job may ask for, pixels.
        memory_bytes: address space of a worker beyond what it starts with.
        slots: decoded frames that a worker may hold, where a job does not say less.
        patience: with a worker on one video.
        start_seconds: within which a worker is ready.
    """

    workers: int
    crop: int
    memory_bytes: int = 1 << 30
    slots: int = 3
    patience: WorkerTimeouts = field(default_factory=WorkerTimeouts)
    start_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, most in (("workers", 1024), ("crop", 8192), ("slots", 64)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be 1..{most}, got {value}")
        if self.memory_bytes < 1 << 20:
            raise ValueError(f"memory_bytes must be at least {1 << 20}, got {self.memory_bytes}")

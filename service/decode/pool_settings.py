"""Settings of a pool of decode workers, and the observer to which it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from adafocus.service.decode.watchdog import WorkerTimeouts

MAX_SLOTS = 1024
"""Slots of a segment at most."""

RestartReason = Literal["crashed", "timeout", "memory", "protocol", "idle_cpu", "recycled", "caller"]
"""Why a worker was replaced. ``recycled`` and ``caller``: nothing was wrong, but its next video, or the next caller's,
needs a fresh one."""


RetryReason = Literal["decoder_crashed", "decoder_timeout", "engine_lost"]
"""Why a video was decoded, or decoded and run, a further time, unnoticed by its request."""


class PoolObserver(Protocol):
    """Receives the pool's events. The metrics implement it."""

    def decode_workers(self, count: int) -> None:
        """Called with the number of workers that are alive when it changes."""

    def decode_worker_restarted(self, reason: RestartReason) -> None:
        """Called when a worker has been lost and will be replaced."""

    def video_retried(self, reason: RetryReason) -> None:
        """Called when another worker will decode the video of one that was lost."""


class Unobserved:
    """An observer that ignores all events."""

    def decode_workers(self, count: int) -> None:
        """Do nothing."""

    def decode_worker_restarted(self, reason: RestartReason) -> None:
        """Do nothing."""

    def video_retried(self, reason: RetryReason) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class PoolSettings:
    """Settings of a pool.

    Attributes:
        workers: number of processes; each decodes one video at a time.
        crop: side of the largest square that a job may request, pixels.
        memory_bytes: address space of a worker beyond what it starts with.
        slots: number of decoded frames of a video that may wait, unless a job sets fewer. All frames of a clip model
            must fit.
        videos: videos whose frames may wait at once, each with memory for ``slots`` frames; None: two for each
            worker.
        patience: time limits of a worker on one video.
        start_seconds: time limit for a worker to become ready.
    """

    workers: int
    crop: int
    memory_bytes: int = 1 << 30
    slots: int = 3
    videos: int | None = None
    patience: WorkerTimeouts = field(default_factory=WorkerTimeouts)
    start_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, most in (("workers", 1024), ("crop", 8192), ("slots", MAX_SLOTS)):
            value = getattr(self, name)
            if not 1 <= value <= most:
                raise ValueError(f"{name} must be 1..{most}, got {value}")
        if self.videos is not None and self.videos < self.workers:
            raise ValueError(f"videos must be at least the {self.workers} workers, got {self.videos}")
        if self.memory_bytes < 1 << 20:
            raise ValueError(f"memory_bytes must be at least {1 << 20}, got {self.memory_bytes}")

    @property
    def segments(self) -> int:
        """Segments of frame memory."""
        return 2 * self.workers if self.videos is None else self.videos

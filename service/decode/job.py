"""What is wanted of one video, and how it is told to a worker."""

from __future__ import annotations

from dataclasses import dataclass

from bundle.manifest import FrameGeometry, Sampling
from video.limits import MediaLimits


@dataclass(frozen=True)
class DecodeJob:
    """Frames of one video, in the order in which the model visits them.

    Attributes:
        sampling: which frames.
        geometry: of the square that the model sees, pixels.
        limits: what is accepted of the video.
        slots: decoded frames that the worker may hold; None: as many as its pool has places for. With 1 it decodes no
            frame before it is asked for.
    """

    sampling: Sampling
    geometry: FrameGeometry
    limits: MediaLimits
    slots: int | None = None

    def slots_of(self, pool: int) -> int:
        """How many of a pool's slots the worker may use."""
        return pool if self.slots is None else max(1, min(self.slots, pool))

    @property
    def planned(self) -> int:
        """Visited positions: a frame for each, where it can be decoded."""
        return self.sampling.frames + (self.sampling.focus_frames or 0)

    def message(self, size: int, complete: bool, expected: int | None) -> dict[str, object]:
        """The job as the worker reads it.

        Args:
            size: bytes that the spool holds now.
            complete: whether these are all.
            expected: how many it will hold in the end, if that is known.
        """
        return {
            "type": "job",
            "frames": self.sampling.frames,
            "focus_frames": self.sampling.focus_frames,
            "first_frame": self.sampling.first_frame,
            "order": self.sampling.order,
            "resize": self.geometry.resize,
            "crop": self.geometry.crop,
            "slots": self.slots,
            "limits": dict(vars(self.limits)),
            "size": size,
            "complete": complete,
            "expected": expected,
        }

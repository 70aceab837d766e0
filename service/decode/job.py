"""A decode job: which frames of one video are wanted, and the message that tells a worker."""

from __future__ import annotations

from dataclasses import dataclass

from adafocus.bundle.manifest import FrameGeometry, Sampling
from adafocus.video.limits import MediaLimits


@dataclass(frozen=True)
class DecodeJob:
    """Frames of one video, in the order in which the model visits them.

    Attributes:
        sampling: which frames are wanted.
        geometry: of the square that the model sees, pixels.
        limits: which videos are accepted.
        slots: number of decoded frames that the worker may hold; None: all slots of its pool. With 1 the worker
            decodes a frame only when it is requested.
    """

    sampling: Sampling
    geometry: FrameGeometry
    limits: MediaLimits
    slots: int | None = None

    def slots_of(self, pool: int) -> int:
        """Number of slots that the worker may use, out of the pool's."""
        return pool if self.slots is None else max(1, min(self.slots, pool))

    @property
    def planned(self) -> int:
        """Number of frames wanted. Fewer arrive if some cannot be decoded."""
        return self.sampling.frames + (self.sampling.focus_frames or 0)

    def message(self, size: int, complete: bool, expected: int | None) -> dict[str, object]:
        """The job as a message to the worker.

        Args:
            size: bytes that the spool holds now.
            complete: whether the spool is complete.
            expected: final size of the spool in bytes, if it is known.
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

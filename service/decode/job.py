"""A decode job: which frames of one video are wanted, and the message that tells a worker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

from bundle.manifest import FrameGeometry, Sampling
from video.limits import MediaLimits


@dataclass(frozen=True)
class DecodeJob:
    """Frames of one video, in the order in which the model visits them.

    Attributes:
        sampling: which frames are wanted.
        geometry: of the square that the model sees, pixels.
        limits: which videos are accepted.
        slots: number of decoded frames that the worker may hold; None: all slots of its pool. With 1 the worker
            decodes a frame only when it is requested.
        max_cpu_seconds: processor time after which nothing is decoded any more, once there is a frame; None: no limit.
    """

    sampling: Sampling
    geometry: FrameGeometry
    limits: MediaLimits
    slots: int | None = None
    max_cpu_seconds: float | None = None

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
            "wanted": self._wanted,
            "size": size,
            "complete": complete,
            "expected": expected,
        }

    @cached_property
    def _wanted(self) -> str:
        """What is the same for every video, encoded once; a worker remembers what it means."""
        wanted = {
            "frames": self.sampling.frames,
            "focus_frames": self.sampling.focus_frames,
            "first_frame": self.sampling.first_frame,
            "order": self.sampling.order,
            "snap": self.sampling.snap,
            "resize": self.geometry.resize,
            "crop": self.geometry.crop,
            "fit": self.geometry.fit,
            "slots": self.slots,
            "max_cpu_seconds": self.max_cpu_seconds,
            "limits": dict(vars(self.limits)),
        }
        return json.dumps(wanted, separators=(",", ":"), allow_nan=False)

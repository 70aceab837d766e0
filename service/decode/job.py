"""A decode job: which frames of one video are wanted, and the message that tells a worker."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property

from adafocus.bundle.manifest import FrameGeometry, Sampling
from adafocus.video.limits import MediaLimits


@dataclass(frozen=True, slots=True)
class WindowJob:
    """One window of a long video. The worker keeps the video open for the next window.

    Attributes:
        window_s: length of a window, seconds.
        stride_s: from the start of one window to that of the next, seconds.
        number: of this window, from 0.
    """

    window_s: float
    stride_s: float
    number: int


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
        window: the window from which the frames are sampled; None: the whole video.
    """

    sampling: Sampling
    geometry: FrameGeometry
    limits: MediaLimits
    slots: int | None = None
    max_cpu_seconds: float | None = None
    window: WindowJob | None = None

    def slots_of(self, pool: int) -> int:
        """Number of slots that the worker may use, out of the pool's."""
        return pool if self.slots is None else max(1, min(self.slots, pool))

    @property
    def planned(self) -> int:
        """Number of frames wanted. Fewer arrive if some cannot be decoded."""
        return self.sampling.frames + (self.sampling.focus_frames or 0)

    def message(
        self,
        size: int,
        complete: bool,
        expected: int | None,
        *,
        sparse: bool = False,
        again: bool = False,
        memory: int = 0,
    ) -> dict[str, object]:
        """The job as a message to the worker.

        Args:
            size: bytes that the spool holds now.
            complete: whether the spool is complete.
            expected: final size of the spool in bytes, if it is known.
            sparse: whether the bytes arrive in any order.
            again: whether the worker has the video open from the window before.
            memory: number of the memory for its frames; 0: of memory that no other job uses.
        """
        return {
            "type": "job",
            "wanted": self._wanted,
            "window": None if self.window is None else {**asdict(self.window), "again": again},
            "size": size,
            "complete": complete,
            "expected": expected,
            "sparse": sparse,
            "memory": memory,
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

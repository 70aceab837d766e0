"""The duration of each stage of a request: one value from the engine to the answer and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Stage = Literal["upload", "queue", "decode", "glance", "focus"]
STAGES: tuple[Stage, ...] = get_args(Stage)


@dataclass(frozen=True, slots=True)
class StageTimes:
    """Wall time of each stage of one request, seconds.

    Stages overlap: decoding goes on during the upload and during other steps. So they need not add up to ``total``.

    Attributes:
        total: from the first byte of the request to its answer.
        upload: from the first byte of the body to the last one that was read.
        queue: waiting for a slot, and ready for the device but not running.
        decode: the decoder's time on the frames that were asked for.
        glance: in batches of the glance.
        focus: in batches of the focus.
    """

    total: float = 0.0
    upload: float = 0.0
    queue: float = 0.0
    decode: float = 0.0
    glance: float = 0.0
    focus: float = 0.0

    @property
    def processing(self) -> float:
        """From the end of the upload to the answer."""
        return max(0.0, self.total - self.upload)

    def milliseconds(self) -> dict[str, float]:
        """All six, to the microsecond, by name."""
        return {
            "total": round(self.total * 1e3, 3),
            "upload": round(self.upload * 1e3, 3),
            "queue": round(self.queue * 1e3, 3),
            "decode": round(self.decode * 1e3, 3),
            "glance": round(self.glance * 1e3, 3),
            "focus": round(self.focus * 1e3, 3),
        }

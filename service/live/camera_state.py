"""What is known of a camera, and what was counted since the start."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from adafocus.service.live.demuxer_process import StreamWindow
from adafocus.service.schemas.cameras import CameraPhase, CameraReport
from adafocus.service.telemetry.camera_metrics import CameraMetrics

BLACK_BRIGHTNESS = 20.0
"""All but 2 % of a picture are darker than this, of 255: nothing is to be seen on it."""

FROZEN_CHANGE = 0.1
"""Two key pictures that differ less, of 255 and on the average, are the same one: a sensor's noise makes more."""


@dataclass(slots=True)
class CameraState:
    """One camera's state; every change is told to the metrics.

    Args:
        name: of the camera.
        metrics: of all cameras.

    Attributes:
        phase: whether its stream is open.
        reason: why it was lost.
        windows: windows that were classified.
        dropped: windows that were left out because a newer one had come, or for want of capacity.
        failed: windows that cannot be classified.
        connections: how often its stream was opened, or tried to be.
        lag_s: from the end of the last window to its answer, seconds.
        label: best label of the last window.
        score: of that label.
        event: label of the event that goes on.
        answered_at: when the last window was classified, seconds since the Unix epoch.
        black: whether the last key picture is dark all over.
        frozen: whether it is the same as the one before.
        gflops: of all windows.
    """

    name: str
    metrics: CameraMetrics
    phase: CameraPhase = "connecting"
    reason: str | None = None
    windows: int = 0
    dropped: int = 0
    failed: int = 0
    connections: int = 0
    lag_s: float | None = None
    label: str | None = None
    score: float | None = None
    event: str | None = None
    answered_at: float | None = None
    black: bool = False
    frozen: bool = False
    gflops: float = 0.0
    _demuxer_cpu_s: float = field(default=0.0)

    def opens(self) -> None:
        """The stream is opened, for the first time or again. One that was lost stays so until windows come."""
        if self.connections:
            self.metrics.reconnected(self.name)
        self.connections += 1
        self._demuxer_cpu_s = 0.0

    def lives(self) -> None:
        """Windows come."""
        self.phase, self.reason = "live", None
        self.metrics.up(self.name, True)

    def lost(self, reason: str) -> None:
        """The stream stopped."""
        self.phase, self.reason = "lost", reason
        self.metrics.up(self.name, False)

    def ended(self) -> None:
        """The file is over."""
        self.phase = "ended"
        self.metrics.up(self.name, False)

    def arrived(self, window: StreamWindow) -> None:
        """A window came out of the demuxer."""
        if window.brightness is not None:
            self.black = window.brightness < BLACK_BRIGHTNESS
            self.frozen = window.change is not None and window.change < FROZEN_CHANGE
            self.metrics.picture(self.name, black=self.black, frozen=self.frozen)
        self.metrics.demuxer_ran(self.name, max(0.0, window.cpu_s - self._demuxer_cpu_s))
        self._demuxer_cpu_s = window.cpu_s

    def dropped_one(self) -> None:
        """A window was left out."""
        self.dropped += 1
        self.metrics.window(self.name, "dropped")

    def failed_one(self) -> None:
        """A window cannot be classified."""
        self.failed += 1
        self.metrics.window(self.name, "failed")

    def answered(self, label: str, score: float, *, lag_s: float, at: float, gflops: float) -> None:
        """A window was classified."""
        self.windows += 1
        self.label, self.score, self.lag_s, self.answered_at = label, score, lag_s, at
        self.gflops += gflops
        self.metrics.answered(self.name, lag_seconds=lag_s, at=at, flops=gflops * 1e9)

    def report(self) -> CameraReport:
        """What ``GET /cameras`` tells."""
        return CameraReport(
            name=self.name,
            state=self.phase,
            reason=self.reason,
            label=self.label,
            score=None if self.score is None else round(self.score, 4),
            event=self.event,
            last_window=None if self.answered_at is None else date(self.answered_at),
            lag_s=self.lag_s,
            black=self.black,
            frozen=self.frozen,
            windows=self.windows,
            dropped=self.dropped,
            failed=self.failed,
            reconnects=max(0, self.connections - 1),
            gflops=round(self.gflops, 3),
        )


def date(seconds: float) -> str:
    """A date in UTC.

    Args:
        seconds: since the Unix epoch.
    """
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")

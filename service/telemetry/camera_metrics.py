"""The metrics of cameras, updated by methods in domain terms; see `camera_definitions`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.metrics_core import Metric as Family

from adafocus.service.telemetry.camera_definitions import (
    CameraOutcome,
    Channel,
    NotificationOutcome,
    camera_metrics,
)
from adafocus.service.telemetry.series import Counts, Layout, SeriesMemory


class CameraMetrics:
    """The metrics of all cameras of this process. All methods are called from one thread.

    Args:
        names: of the cameras.
        started: when the command started, seconds since the Unix epoch.
    """

    def __init__(self, names: Sequence[str], started: float) -> None:
        self._counts = Counts(SeriesMemory(Layout(camera_metrics(names), 1)))
        for name in names:
            self._counts.set(("adafocus_camera_last_window_timestamp_seconds", name), started)

    def up(self, camera: str, yes: bool) -> None:
        """Set whether the stream is open and windows come."""
        self._counts.set(("adafocus_camera_up", camera), yes)

    def reconnected(self, camera: str) -> None:
        """Count that the stream is opened again."""
        self._counts.add(("adafocus_camera_reconnects_total", camera))

    def window(self, camera: str, outcome: CameraOutcome) -> None:
        """Count a window."""
        self._counts.add(("adafocus_camera_windows_total", camera, outcome))

    def answered(self, camera: str, *, lag_seconds: float, at: float, flops: float) -> None:
        """Tell of the answer to a window.

        Args:
            camera: its name.
            lag_seconds: from the window's last byte to the answer.
            at: seconds since the Unix epoch.
            flops: multiply-adds.
        """
        self.window(camera, "classified")
        self._counts.set(("adafocus_camera_lag_seconds", camera), lag_seconds)
        self._counts.set(("adafocus_camera_last_window_timestamp_seconds", camera), at)
        self._counts.add(("adafocus_camera_flops_total", camera), flops)

    def picture(self, camera: str, *, black: bool, frozen: bool) -> None:
        """Set what the latest key picture is like."""
        self._counts.set(("adafocus_camera_black", camera), black)
        self._counts.set(("adafocus_camera_frozen", camera), frozen)

    def demuxer_ran(self, camera: str, cpu_seconds: float) -> None:
        """Count processor time of a demuxer."""
        self._counts.add(("adafocus_camera_demuxer_cpu_seconds_total", camera), cpu_seconds)

    def notified(self, channel: Channel, outcome: NotificationOutcome, count: int = 1) -> None:
        """Count events that were delivered or given up."""
        self._counts.add(("adafocus_camera_notifications_total", channel, outcome), count)

    def collect(self) -> Iterator[Family]:
        """The metrics, for `Metrics.include`."""
        return self._counts.collect()

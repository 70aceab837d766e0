"""The definitions of the metrics of cameras, which `adafocus watch` counts beside those of the service.

The label ``camera`` has the names of ``cameras.toml``: a closed set, known when the command starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

from adafocus.service.telemetry.definitions import Metric

CameraOutcome = Literal["classified", "dropped", "failed"]
NotificationOutcome = Literal["delivered", "dropped"]
Channel = Literal["webhook", "mqtt"]

_CAMERA: dict[str, tuple[str, ...]] = {"camera": ()}

CAMERA_CATALOGUE: tuple[Metric, ...] = (
    Metric("adafocus_camera_up", "gauge", "", "1 while the camera's stream is open and windows come, else 0", _CAMERA),
    Metric(
        "adafocus_camera_windows_total",
        "counter",
        "windows",
        "Windows of the camera: classified, dropped for a newer one or for want of capacity, or impossible to classify",
        _CAMERA | {"outcome": get_args(CameraOutcome)},
    ),
    Metric(
        "adafocus_camera_reconnects_total",
        "counter",
        "connections",
        "Times that the camera's stream had to be opened again, successful or not",
        _CAMERA,
    ),
    Metric(
        "adafocus_camera_lag_seconds",
        "gauge",
        "seconds",
        "Time from the last byte of the camera's latest window to its answer",
        _CAMERA,
    ),
    Metric(
        "adafocus_camera_last_window_timestamp_seconds",
        "gauge",
        "seconds",
        "When the latest window was classified, since the Unix epoch; when the command started if none was",
        _CAMERA,
    ),
    Metric(
        "adafocus_camera_black",
        "gauge",
        "",
        "1 if the key picture of the latest window is dark all over: a covered lens, or no signal",
        _CAMERA,
    ),
    Metric(
        "adafocus_camera_frozen",
        "gauge",
        "",
        "1 if the key pictures of the latest windows are the same, without even a sensor's noise between them",
        _CAMERA,
    ),
    Metric("adafocus_camera_flops_total", "counter", "multiply-adds", "Multiply-adds of the camera's windows", _CAMERA),
    Metric(
        "adafocus_camera_demuxer_cpu_seconds_total",
        "counter",
        "seconds",
        "Processor time of the process that takes the camera's stream apart",
        _CAMERA,
    ),
    Metric(
        "adafocus_camera_notifications_total",
        "counter",
        "events",
        "Beginnings and ends of events that were delivered, or given up after retries or for want of a place to wait",
        {"channel": get_args(Channel), "outcome": get_args(NotificationOutcome)},
    ),
)


def camera_metrics(names: Sequence[str]) -> tuple[Metric, ...]:
    """The definitions with the names of the cameras."""
    return tuple(
        replace(metric, labels={**metric.labels, "camera": tuple(names)}) if "camera" in metric.labels else metric
        for metric in CAMERA_CATALOGUE
    )

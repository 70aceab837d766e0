"""The row of cameras, for `adafocus watch`; without one its panels are empty."""

from __future__ import annotations

from panels import Panel, Query, Row
from promql import WINDOW, rate

CAMERAS = Row(
    "Cameras",
    [
        Panel(
            "Cameras up",
            "Cameras whose stream is open and sends windows, and how many there are.",
            "short",
            [Query("sum(adafocus_camera_up)", "up"), Query("count(adafocus_camera_up)", "all")],
            kind="stat",
            width=6,
        ),
        Panel(
            "Lag",
            "From the last byte of a camera's latest window to its answer. The line is where an alert fires.",
            "s",
            [Query("adafocus_camera_lag_seconds", "{{camera}}")],
            width=6,
            limit=10,
        ),
        Panel(
            "Windows",
            "Per minute, of all cameras. Dropped ones made room for a newer one: there is too little capacity.",
            "cpm",
            [Query(f"60 * {rate('adafocus_camera_windows_total', 'outcome')}", "{{outcome}}")],
            width=6,
            stacked=True,
        ),
        Panel(
            "Streams opened again",
            "Per minute and camera. A camera that appears here again and again has a bad cable, or too little power.",
            "cpm",
            [Query(f"60 * {rate('adafocus_camera_reconnects_total', 'camera')}", "{{camera}}")],
            width=6,
        ),
        Panel(
            "Black or frozen",
            "Cameras whose latest key picture is dark all over, or the same as the one before.",
            "short",
            [
                Query("sum(adafocus_camera_black)", "black"),
                Query("sum(adafocus_camera_frozen)", "frozen"),
            ],
            width=6,
        ),
        Panel(
            "Processor time of demuxing",
            "Processors used by the processes that take the streams apart, all cameras together.",
            "short",
            [Query(rate("adafocus_camera_demuxer_cpu_seconds_total"), "demuxers")],
            width=6,
            decimals=2,
        ),
        Panel(
            "Compute by camera",
            "Multiply-adds per second. What an early exit saves differs from camera to camera.",
            "short",
            [Query(f"topk(10, sum by (camera) (rate(adafocus_camera_flops_total[{WINDOW}])))", "{{camera}}")],
            width=6,
        ),
        Panel(
            "Events delivered and lost",
            "Beginnings and ends of events per minute, by where they go.",
            "cpm",
            [
                Query(
                    f"60 * sum by (channel, outcome) (rate(adafocus_camera_notifications_total[{WINDOW}]))",
                    "{{channel}} {{outcome}}",
                )
            ],
            width=6,
        ),
    ],
)

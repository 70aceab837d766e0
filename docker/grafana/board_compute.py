"""What an answer costs, what stopping early saved, and whether that is drifting."""

from __future__ import annotations

from panels import Panel, Query, Row, dashboard
from promql import ANSWERED, WINDOW, mean, quantile, rate

SHARE_OF_FULL = f"{rate('adafocus_flops_total')} / {rate('adafocus_flops_full_total')}"

COMPUTE = dashboard(
    "adafocus-compute",
    "adafocus · Per-request compute",
    "What an answer costs, what stopping early saved, and whether videos are as hard as the model was calibrated for.",
    [
        Row(
            "What does a request cost, and what did the exit save?",
            [
                Panel(
                    "Mean cost",
                    "Multiply-adds spent on an answered request, in the paper's counting: one multiply-add is one.",
                    "si:FLOP",
                    [Query(mean("adafocus_request_flops"), "per request")],
                    kind="stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Share of the full price",
                    "Multiply-adds spent, of what the same requests would have cost without any exit.",
                    "percentunit",
                    [Query(SHARE_OF_FULL, "spent of full")],
                    kind="stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Device time per request",
                    "Seconds that the device ran batches, divided by the requests answered: batch-mates share it.",
                    "s",
                    [Query(f"{rate('adafocus_device_seconds_total')} / {ANSWERED}", "per request")],
                    kind="stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Device time saved per request",
                    "An estimate: device seconds per request, had every multiply-add that the exit saved been spent at "
                    "the same speed.",
                    "s",
                    [
                        Query(
                            f"{rate('adafocus_device_seconds_total')} / {ANSWERED} * "
                            f"({rate('adafocus_flops_full_total')} / {rate('adafocus_flops_total')} - 1)",
                            "per request",
                        )
                    ],
                    kind="stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Cost of a request",
                    "Multiply-adds of an answered request. Quantiles come from buckets and are as fine as these.",
                    "si:FLOP",
                    [
                        Query(quantile(0.5, "adafocus_request_flops"), "p50"),
                        Query(quantile(0.95, "adafocus_request_flops"), "p95"),
                        Query(mean("adafocus_request_flops"), "mean"),
                        Query(f"{rate('adafocus_flops_full_total')} / {rate('adafocus_request_flops_count')}", "full"),
                    ],
                ),
                Panel(
                    "Spent against full price",
                    "Multiply-adds per second: spent, and what the same requests would have cost without exit.",
                    "si:FLOP/s",
                    [
                        Query(rate("adafocus_flops_total"), "spent"),
                        Query(rate("adafocus_flops_full_total"), "full price"),
                    ],
                ),
                Panel(
                    "Glance and focus",
                    "How the multiply-adds divide between the look at the whole frame and the look at the patch.",
                    "si:FLOP/s",
                    [Query(rate("adafocus_flops_total", "component"), "{{component}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Where do videos leave, and is that drifting?",
            [
                Panel(
                    "Exit step",
                    "How many answers left at each step, counted from 1. A band that moves up: harder videos.",
                    "short",
                    [Query(f"sum by (le) (increase(adafocus_exit_step_bucket[{WINDOW}]))", "{{le}}")],
                    kind="heatmap",
                    width=12,
                ),
                Panel(
                    "Why they left",
                    "Answers per second by the reason of their exit. Many end_of_video: uploads are damaged or short.",
                    "reqps",
                    [Query(rate("adafocus_exit_step_count", "reason"), "{{reason}}")],
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "Left by step, against the calibration",
                    "Share of the last hour's videos that had left by each step, and the share that the manifest's "
                    "calibration expects at the operating points that were asked for.",
                    "percentunit",
                    [
                        Query("adafocus:exits_by_step:share1h", "left by {{step}}"),
                        Query("adafocus:exits_by_step_expected:share1h", "expected by {{step}}"),
                    ],
                    kind="bargauge",
                    width=12,
                ),
                Panel(
                    "Shift of the exit distribution",
                    "The largest gap between the two cumulative shares over an hour. Above 0.2 for half an hour is an "
                    "alert: the videos, or the way they are encoded, are not those of the calibration.",
                    "percentunit",
                    [
                        Query("adafocus:exits_later_than_expected:share1h", "later than expected"),
                        Query("adafocus:exits_earlier_than_expected:share1h", "earlier than expected"),
                    ],
                    width=6,
                    limit=0.2,
                ),
                Panel(
                    "Mean exit step",
                    "The step that answered, counted from 1; one step costs one glance and one focus.",
                    "short",
                    [Query(mean("adafocus_exit_step"), "mean step")],
                    width=6,
                    decimals=1,
                ),
            ],
        ),
        Row(
            "What does decoding cost?",
            [
                Panel(
                    "Frames decoded and used",
                    "Frames that were decoded, and those that the model saw. Between key frames everything is decoded.",
                    "fps",
                    [
                        Query(rate("adafocus_frames_decoded_total"), "decoded"),
                        Query(rate("adafocus_frames_used_total"), "used"),
                    ],
                    width=12,
                ),
                Panel(
                    "Frames decoded for each frame used",
                    "High for long videos with rare key frames; an early exit keeps it down.",
                    "none",
                    [
                        Query(
                            f"{rate('adafocus_frames_decoded_total')} / {rate('adafocus_frames_used_total')}",
                            "decoded per used",
                        )
                    ],
                    width=12,
                    decimals=1,
                ),
            ],
        ),
    ],
)

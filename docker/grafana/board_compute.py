"""The dashboard of compute: the cost of an answer, the savings of early exit, and their drift."""

from __future__ import annotations

from panels import Panel, Query, Row, dashboard
from promql import ANSWERED, WINDOW, mean, quantile, rate

SHARE_OF_FULL = f"{rate('adafocus_flops_total')} / {rate('adafocus_flops_full_total')}"

COMPUTE = dashboard(
    "adafocus-compute",
    "adafocus · Per-request compute",
    "The cost of an answer, the savings of early exit, and whether videos are as hard as in the calibration.",
    [
        Row(
            "Cost of a request, and savings of early exit",
            [
                Panel(
                    "Mean cost",
                    "Multiply-adds per answered request, in the paper's convention: one multiply-add is one FLOP.",
                    "si:FLOP",
                    [Query(mean("adafocus_request_flops"), "per request")],
                    kind="stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Share of the full cost",
                    "Multiply-adds spent, as a share of what the same requests would have cost without early exit.",
                    "percentunit",
                    [Query(SHARE_OF_FULL, "spent of full")],
                    kind="stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Device time per request",
                    "Seconds that the device ran batches, divided by answered requests. Requests in a batch share it.",
                    "s",
                    [Query(f"{rate('adafocus_device_seconds_total')} / {ANSWERED}", "per request")],
                    kind="stat",
                    width=6,
                    height=4,
                ),
                Panel(
                    "Device time saved per request",
                    "An estimate: the device time of the multiply-adds that early exit saved, at the speed of those "
                    "that ran.",
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
                    "Multiply-adds per answered request. Quantiles are computed from buckets and are only as precise.",
                    "si:FLOP",
                    [
                        Query(quantile(0.5, "adafocus_request_flops"), "p50"),
                        Query(quantile(0.95, "adafocus_request_flops"), "p95"),
                        Query(mean("adafocus_request_flops"), "mean"),
                        Query(f"{rate('adafocus_flops_full_total')} / {rate('adafocus_request_flops_count')}", "full"),
                    ],
                ),
                Panel(
                    "Spent and full cost",
                    "Multiply-adds per second: spent, and what the same requests would have cost without early exit.",
                    "si:FLOP/s",
                    [
                        Query(rate("adafocus_flops_total"), "spent"),
                        Query(rate("adafocus_flops_full_total"), "full cost"),
                    ],
                ),
                Panel(
                    "Glance and focus",
                    "Multiply-adds per second of the glance (the whole frame) and of the focus (the patch).",
                    "si:FLOP/s",
                    [Query(rate("adafocus_flops_total", "component"), "{{component}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Exits and their drift",
            [
                Panel(
                    "Exit step",
                    "Number of answers that exited at each step, counted from 1. A band that moves up means harder "
                    "videos.",
                    "short",
                    [Query(f"sum by (le) (increase(adafocus_exit_step_bucket[{WINDOW}]))", "{{le}}")],
                    kind="heatmap",
                    width=12,
                ),
                Panel(
                    "Exit reasons",
                    "Answers per second by exit reason. Many end_of_video mean damaged or short uploads.",
                    "reqps",
                    [Query(rate("adafocus_exit_step_count", "reason"), "{{reason}}")],
                    width=12,
                    stacked=True,
                ),
                Panel(
                    "Exits by step, and the calibration",
                    "Share of the last hour's videos that had exited by each step, and the share that the manifest's "
                    "calibration expects at the requested operating points.",
                    "percentunit",
                    [
                        Query("adafocus:exits_by_step:share1h", "exited by {{step}}"),
                        Query("adafocus:exits_by_step_expected:share1h", "expected by {{step}}"),
                    ],
                    kind="bargauge",
                    width=12,
                ),
                Panel(
                    "Shift of the exit distribution",
                    "The largest difference between the two cumulative shares over an hour. Above 0.2 for half an hour "
                    "raises an alert: the videos, or their encoding, differ from those of the calibration.",
                    "percentunit",
                    [
                        Query("adafocus:exits_later_than_expected:share1h", "later than expected"),
                        Query("adafocus:exits_earlier_than_expected:share1h", "earlier than expected"),
                    ],
                    width=6,
                    limit=0.2,
                ),
                Panel(
                    "Exits after the glance",
                    "Answers per second by what they came after. A glance whose focus did not run costs a fraction of "
                    "a step.",
                    "reqps",
                    [Query(rate("adafocus_exits_total", "component"), "{{component}}")],
                    width=6,
                    stacked=True,
                ),
                Panel(
                    "Early answers and full ones",
                    "Shadow runs per second, by whether the early answer was that of all steps. There are none unless "
                    "shadow_full_share is set.",
                    "short",
                    [Query(rate("adafocus_shadow_total", "answer"), "{{answer}}")],
                    width=6,
                    stacked=True,
                ),
                Panel(
                    "Evidence against the exits",
                    "Evidence that early exits change more answers than they may. 100 raises an alert, and has a "
                    "chance of at most 1 % if they do not.",
                    "short",
                    [Query("adafocus_shadow_evidence", "evidence")],
                    width=6,
                    limit=100,
                ),
                Panel(
                    "Quality",
                    "How many operating points cheaper than asked requests run, and answers per second that did.",
                    "short",
                    [
                        Query("adafocus_quality_level", "level"),
                        Query(rate("adafocus_degraded_total"), "degraded answers/s"),
                    ],
                    width=6,
                ),
                Panel(
                    "Mean exit step",
                    "Mean step at which answers exited, counted from 1. One step costs one glance and one focus.",
                    "short",
                    [Query(mean("adafocus_exit_step"), "mean step")],
                    width=6,
                    decimals=1,
                ),
            ],
        ),
        Row(
            "Cost of decoding",
            [
                Panel(
                    "Processor time of decoding",
                    "Processor seconds of the decode workers for each answered request.",
                    "s",
                    [Query(f"{rate('adafocus_decode_cpu_seconds_total')} / {ANSWERED}", "per request")],
                ),
                Panel(
                    "Frames decoded and used",
                    "Frames that were decoded, and frames that the model saw. From a key frame on, all frames up to "
                    "the wanted one are decoded.",
                    "fps",
                    [
                        Query(rate("adafocus_frames_decoded_total"), "decoded"),
                        Query(rate("adafocus_frames_used_total"), "used"),
                    ],
                    width=12,
                ),
                Panel(
                    "Frames decoded for each frame used",
                    "High for long videos with rare key frames. Early exit lowers it.",
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

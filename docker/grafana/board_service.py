"""The dashboard of the service: requests, latency, capacity and health."""

from __future__ import annotations

from board_cameras import CAMERAS
from board_models import MODELS
from panels import Panel, Query, Row, dashboard
from promql import WINDOW, mean, quantile, rate

SERVICE = dashboard(
    "adafocus-service",
    "adafocus · Service",
    "Requests and their outcomes, latency by stage, rejections, capacity and health.",
    [
        Row(
            "Requests and errors",
            [
                Panel(
                    "Requests by outcome",
                    "Classifications per second. The service causes rejected and error; the client causes the rest.",
                    "reqps",
                    [Query(rate("adafocus_requests_total", "outcome"), "{{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Refused or failed",
                    "Share of the requests that the service should have answered and did not. The objective is 0.1 % "
                    "over a month.",
                    "percentunit",
                    [
                        Query("adafocus:unanswered:ratio5m", "5 minutes"),
                        Query("adafocus:unanswered:ratio1h", "1 hour"),
                        Query("adafocus:unanswered:ratio6h", "6 hours"),
                    ],
                    limit=0.001,
                ),
                Panel(
                    "Errors by code",
                    "Error responses per second, by the code in their problem document.",
                    "reqps",
                    [Query(rate("adafocus_rejections_total", "code"), "{{code}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "Latency and where the time goes",
            [
                Panel(
                    "From the end of the upload to the answer",
                    "The time for which the service is responsible, without the client's network. The line is the "
                    "objective for p99.",
                    "s",
                    [
                        Query(quantile(0.5, "adafocus_processing_duration_seconds"), "p50"),
                        Query(quantile(0.95, "adafocus_processing_duration_seconds"), "p95"),
                        Query(quantile(0.99, "adafocus_processing_duration_seconds"), "p99"),
                    ],
                    limit=1.0,
                ),
                Panel(
                    "From the first byte to the answer",
                    "The whole request including the upload, for every outcome.",
                    "s",
                    [
                        Query(quantile(0.5, "adafocus_request_duration_seconds"), "p50"),
                        Query(quantile(0.95, "adafocus_request_duration_seconds"), "p95"),
                        Query(quantile(0.99, "adafocus_request_duration_seconds"), "p99", exemplars=True),
                    ],
                ),
                Panel(
                    "p95 by stage",
                    "Stages overlap: frames are decoded while the model runs on others.",
                    "s",
                    [Query(quantile(0.95, "adafocus_stage_duration_seconds", "stage"), "{{stage}}")],
                ),
                Panel(
                    "Mean time by stage",
                    "Mean time of an answer in each stage. If queue grows, add capacity; if decode grows, add workers.",
                    "s",
                    [Query(mean("adafocus_stage_duration_seconds", "stage"), "{{stage}}")],
                    stacked=True,
                    width=12,
                ),
                Panel(
                    "HTTP by route",
                    "Requests per second by route template, every route and status.",
                    "reqps",
                    [Query(rate("adafocus_http_requests_total", "route, status"), "{{route}} {{status}}")],
                    width=6,
                ),
                Panel(
                    "Mean HTTP time by route",
                    "From the request's headers to the end of its response. Probes should stay fast under load.",
                    "s",
                    [Query(mean("adafocus_http_request_duration_seconds", "route") + " > 0", "{{route}}")],
                    width=6,
                ),
            ],
        ),
        Row(
            "Capacity",
            [
                Panel(
                    "Queue",
                    "Requests that wait for a slot, and the limit above which requests are rejected.",
                    "short",
                    [
                        Query("sum(adafocus_queue_depth)", "waiting"),
                        Query("sum(adafocus_queue_limit)", "limit"),
                    ],
                ),
                Panel(
                    "Slots",
                    "Videos that are being processed, and the number that can be at the same time.",
                    "short",
                    [
                        Query("sum(adafocus_slots_active)", "active"),
                        Query("sum(adafocus_slots)", "slots"),
                    ],
                ),
                Panel(
                    "Rows per batch",
                    "Mean rows of a batch, without padding. Far below the number of slots under load means that "
                    "decoding is the bottleneck and rows wait for frames.",
                    "short",
                    [
                        Query(mean("adafocus_batch_size", "component"), "{{component}}"),
                        Query("max(adafocus_slots)", "slots"),
                    ],
                    decimals=1,
                ),
                Panel(
                    "Batch sizes",
                    "Number of batches by their number of rows.",
                    "short",
                    [
                        Query(
                            f'sum by (le) (increase(adafocus_batch_size_bucket{{component="focus"}}[{WINDOW}]))',
                            "{{le}}",
                        )
                    ],
                    kind="heatmap",
                    width=12,
                ),
                Panel(
                    "Device busy",
                    "Share of the time in which the device ran a batch. Near 1, more requests only wait longer.",
                    "percentunit",
                    [
                        Query(
                            f"{rate('adafocus_device_seconds_total', 'component')} "
                            "/ on () group_left () count(adafocus_slots)",
                            "{{component}}",
                        )
                    ],
                    stacked=True,
                    width=12,
                ),
            ],
        ),
        Row(
            "Health",
            [
                Panel(
                    "Decode workers",
                    "Number of worker processes that are alive.",
                    "short",
                    [Query("sum(adafocus_decode_workers)", "alive")],
                    width=6,
                ),
                Panel(
                    "Workers replaced",
                    "Per minute, by reason, and the videos that were decoded again because of it. A hostile upload "
                    "costs a few workers; investigate if many are replaced.",
                    "cpm",
                    [
                        Query(f"60 * {rate('adafocus_decode_worker_restarts_total', 'reason')}", "{{reason}}"),
                        Query(f"60 * {rate('adafocus_video_retries_total', 'reason')}", "videos again: {{reason}}"),
                    ],
                    width=6,
                ),
                Panel(
                    "Memory of the service",
                    "Resident memory of the process that holds the model, without the decode workers.",
                    "bytes",
                    [Query("adafocus_process_resident_memory_bytes", "{{instance}}")],
                    width=6,
                ),
                Panel(
                    "Processor time of the service",
                    "Processors used by the process that holds the model, without the decode workers.",
                    "short",
                    [Query(rate("adafocus_process_cpu_seconds_total", "instance"), "{{instance}}")],
                    width=6,
                    decimals=2,
                ),
                Panel(
                    "Uploads",
                    "Bytes received per second.",
                    "Bps",
                    [Query(rate("adafocus_upload_bytes_total"), "received")],
                    width=6,
                ),
                Panel(
                    "Ready",
                    "Number of instances that are loaded, warmed up and not draining.",
                    "short",
                    [Query("sum(adafocus_ready)", "ready")],
                    kind="stat",
                    width=6,
                ),
                Panel(
                    "What is serving",
                    "The model, its version, its backend and its precision, per instance.",
                    "short",
                    [Query("adafocus_model_info", "{{name}}")],
                    kind="table",
                    width=12,
                ),
            ],
        ),
        MODELS,
        CAMERAS,
    ],
)

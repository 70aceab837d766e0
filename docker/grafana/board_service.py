"""Whether requests are answered, how fast, and what is running full."""

from __future__ import annotations

from panels import Panel, Query, Row, dashboard
from promql import WINDOW, mean, quantile, rate

SERVICE = dashboard(
    "adafocus-service",
    "adafocus · Service",
    "Whether requests are answered, how fast, where their time goes, who was turned away, and what is running full.",
    [
        Row(
            "Are requests answered?",
            [
                Panel(
                    "Requests by outcome",
                    "Classifications that ended, per second. rejected and error are ours; the rest is the client's.",
                    "reqps",
                    [Query(rate("adafocus_requests_total", "outcome"), "{{outcome}}")],
                    stacked=True,
                ),
                Panel(
                    "Refused or failed",
                    "Share of the requests that were ours to answer and were not. The objective is 0.1 % over a month.",
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
                    "Error answers per second, by the code in their problem document.",
                    "reqps",
                    [Query(rate("adafocus_rejections_total", "code"), "{{code}}")],
                    stacked=True,
                ),
            ],
        ),
        Row(
            "How fast, and where does the time go?",
            [
                Panel(
                    "From the end of the upload to the answer",
                    "What the service answers for: no client's network is in it. The line is p99's objective.",
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
                    "The whole request, the upload included, however it ended.",
                    "s",
                    [
                        Query(quantile(0.5, "adafocus_request_duration_seconds"), "p50"),
                        Query(quantile(0.95, "adafocus_request_duration_seconds"), "p95"),
                        Query(quantile(0.99, "adafocus_request_duration_seconds"), "p99", exemplars=True),
                    ],
                ),
                Panel(
                    "p95 by stage",
                    "Stages overlap: frames are decoded while others are looked at.",
                    "s",
                    [Query(quantile(0.95, "adafocus_stage_duration_seconds", "stage"), "{{stage}}")],
                ),
                Panel(
                    "Mean time by stage",
                    "What an average answer spends where. A growing queue asks for room, a growing decode for workers.",
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
                    "From a request's head to the end of its answer. Probes should stay fast under load.",
                    "s",
                    [Query(mean("adafocus_http_request_duration_seconds", "route") + " > 0", "{{route}}")],
                    width=6,
                ),
            ],
        ),
        Row(
            "What is running full?",
            [
                Panel(
                    "Queue",
                    "Requests that wait for a slot, and how many may before they are turned away.",
                    "short",
                    [
                        Query("sum(adafocus_queue_depth)", "waiting"),
                        Query("sum(adafocus_queue_limit)", "limit"),
                    ],
                ),
                Panel(
                    "Slots",
                    "Videos being worked on, and how many can be at once.",
                    "short",
                    [
                        Query("sum(adafocus_slots_active)", "active"),
                        Query("sum(adafocus_slots)", "slots"),
                    ],
                ),
                Panel(
                    "Rows per batch",
                    "Mean rows of a batch, padding not among them. Far below the slots under load: decoding is the "
                    "bottleneck, rows wait for frames.",
                    "short",
                    [
                        Query(mean("adafocus_batch_size", "component"), "{{component}}"),
                        Query("max(adafocus_slots)", "slots"),
                    ],
                    decimals=1,
                ),
                Panel(
                    "Batch sizes",
                    "How many batches ran with how many rows.",
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
                    "Share of the time in which the device ran a batch. Near 1: more requests only wait longer.",
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
            "Is the machinery sound?",
            [
                Panel(
                    "Decode workers",
                    "Processes alive.",
                    "short",
                    [Query("sum(adafocus_decode_workers)", "alive")],
                    width=6,
                ),
                Panel(
                    "Workers replaced",
                    "Per minute, by what went wrong. A hostile upload costs one worker; many in a row want a look.",
                    "cpm",
                    [Query(f"60 * {rate('adafocus_decode_worker_restarts_total', 'reason')}", "{{reason}}")],
                    width=6,
                ),
                Panel(
                    "Memory of the service",
                    "Resident memory of the process that holds the model; decode workers are beside it.",
                    "bytes",
                    [Query("adafocus_process_resident_memory_bytes", "{{instance}}")],
                    width=6,
                ),
                Panel(
                    "Processor time of the service",
                    "Processors in use by the process that holds the model; decode workers are beside it.",
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
                    "Instances that are loaded, warmed and not draining.",
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
    ],
)

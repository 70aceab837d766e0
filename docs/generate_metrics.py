"""Generates docs/metrics.md from the metrics' definitions. `python docs/generate_metrics.py` writes the file.

A test compares the file with the output of this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from adafocus.service.telemetry.camera_definitions import CAMERA_CATALOGUE
from adafocus.service.telemetry.definitions import CATALOGUE, Metric

PAGE = Path(__file__).resolve().parent / "metrics.md"

HEAD = """# Metrics

<!-- Generated from service/telemetry/definitions.py: edit that, then run `python docs/generate_metrics.py`. -->

`GET /metrics` returns Prometheus' text format, or OpenMetrics if the `Accept` header names it. Only in OpenMetrics do
the buckets of `adafocus_request_duration_seconds` carry exemplars with the request's id, which is also in the log and
in the response's `X-Request-ID`. Base units are seconds, bytes, multiply-adds (the paper's FLOPs: one multiply-add is
one) and frames. Label values come from fixed sets. Every series exists from the first scrape with the value 0, except
those whose labels depend on the loaded bundle. No metric is a ratio: divide the rates of two counters.

| metric | type | unit | labels | what it counts |
|---|---|---|---|---|
"""

CAMERAS = """
## Cameras

`adafocus watch --port` has these beside those above. `camera` has the names of `cameras.toml`.

| metric | type | unit | labels | what it counts |
|---|---|---|---|---|
"""

BUCKETS = """
## Buckets

| histogram | upper bounds |
|---|---|
"""


def page() -> str:
    """The text of the page."""
    rows, of_cameras = _rows(CATALOGUE), _rows(CAMERA_CATALOGUE)
    bounds = [f"| `{metric.name}` | {_bounds(metric)} |" for metric in CATALOGUE if metric.kind == "histogram"]
    return HEAD + rows + CAMERAS + of_cameras + BUCKETS + "\n".join(bounds) + "\n"


def _rows(metrics: Sequence[Metric]) -> str:
    return "".join(
        f"| `{metric.name}` | {metric.kind} | {metric.unit or '–'} | {_labels(metric)} | {metric.help} |\n"
        for metric in metrics
    )


def _labels(metric: Metric) -> str:
    known = [
        f"`{name}`: {', '.join(f'`{value}`' for value in values) or 'known at the start'}"
        for name, values in metric.labels.items()
    ]
    return "<br>".join(known) or "–"


def _bounds(metric: Metric) -> str:
    return ", ".join(f"{bound:g}" for bound in metric.buckets) or "one for each step of the bundle"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

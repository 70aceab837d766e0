"""docs/metrics.md out of the catalogue. `python docs/generate_metrics.py` writes it; a test compares the two."""

from __future__ import annotations

from pathlib import Path

from service.telemetry.definitions import CATALOGUE, Metric

PAGE = Path(__file__).resolve().parent / "metrics.md"

HEAD = """# Metrics

<!-- Generated from service/telemetry/definitions.py: edit that, then run `python docs/generate_metrics.py`. -->

`GET /metrics` answers in Prometheus' text format, and in OpenMetrics when the `Accept` header names it; only there the
buckets of `adafocus_request_duration_seconds` carry exemplars with the request's id, which is also in the log and in
the answer's `X-Request-ID`. Base units: seconds, bytes, multiply-adds (the paper's FLOPs: one multiply-add is one),
frames. Label values are closed sets, and every series is there from the first scrape with the value 0, but those that
only the loaded bundle can name. A ratio is never a metric: divide the rates of two counters.

| metric | type | unit | labels | what it counts |
|---|---|---|---|---|
"""

BUCKETS = """
## Buckets

| histogram | upper bounds |
|---|---|
"""


def page() -> str:
    """The whole page."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {metric.unit or '–'} | {_labels(metric)} | {metric.help} |"
        for metric in CATALOGUE
    ]
    bounds = [f"| `{metric.name}` | {_bounds(metric)} |" for metric in CATALOGUE if metric.kind == "histogram"]
    return HEAD + "\n".join(rows) + "\n" + BUCKETS + "\n".join(bounds) + "\n"


def _labels(metric: Metric) -> str:
    known = [
        f"`{name}`: {', '.join(f'`{value}`' for value in values) or 'known once loaded'}"
        for name, values in metric.labels.items()
    ]
    return "<br>".join(known) or "–"


def _bounds(metric: Metric) -> str:
    return ", ".join(f"{bound:g}" for bound in metric.buckets) or "one for each step of the bundle"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

"""PromQL expressions that the dashboards share."""

from __future__ import annotations

WINDOW = "$__rate_interval"


def rate(metric: str, by: str = "") -> str:
    """The summed rate of a counter, by a label if one is given."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}[{WINDOW}]))"


def quantile(share: float, histogram: str, by: str = "") -> str:
    """A quantile of a histogram over all instances, by a label if one is given."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate({histogram}_bucket[{WINDOW}])))"


def mean(histogram: str, by: str = "") -> str:
    """The mean of a histogram's observations, by a label if one is given."""
    return f"{rate(f'{histogram}_sum', by)} / {rate(f'{histogram}_count', by)}"


ANSWERED = rate('adafocus_requests_total{outcome="ok"}')
"""Requests answered per second."""

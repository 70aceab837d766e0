"""Grafana's panels as plain values, and their JSON: the fields that all panels share, and their place on the grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Json = dict[str, object]
Kind = Literal["timeseries", "stat", "heatmap", "bargauge", "table"]

SOURCE = {"type": "prometheus", "uid": "prometheus"}
"""The data source that provisioning creates, by its fixed uid."""

COLUMNS = 24
SCHEMA_VERSION = 39


@dataclass(frozen=True)
class Query:
    """A PromQL expression and the name of its series. Grafana replaces ``{{label}}`` by the label's value."""

    expr: str
    legend: str = ""
    exemplars: bool = False


@dataclass(frozen=True)
class Panel:
    """One panel: its title, a description of what its values mean, and their unit.

    ``limit`` draws a line at an objective or a fixed capacity.
    """

    title: str
    description: str
    unit: str
    queries: Sequence[Query]
    kind: Kind = "timeseries"
    width: int = 8
    height: int = 8
    stacked: bool = False
    limit: float | None = None
    decimals: int | None = None


@dataclass(frozen=True)
class Row:
    """A heading and the panels under it."""

    title: str
    panels: Sequence[Panel]


def dashboard(uid: str, title: str, description: str, rows: Sequence[Row]) -> Json:
    """A whole dashboard. Panels flow from left to right and wrap at 24 columns."""
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["adafocus"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "10s",
        "graphTooltip": 1,
        "templating": {"list": []},
        "links": [{"type": "dashboards", "tags": ["adafocus"], "title": "adafocus", "asDropdown": False}],
        "annotations": {"list": [_firing_alerts()]},
        "panels": list(_laid_out(rows)),
    }


def _laid_out(rows: Sequence[Row]) -> Iterator[Json]:
    number, top = 1, 0
    for row in rows:
        yield {
            "id": number,
            "type": "row",
            "title": row.title,
            "collapsed": False,
            "gridPos": {"x": 0, "y": top, "w": COLUMNS, "h": 1},
            "panels": [],
        }
        number, top, left, tallest = number + 1, top + 1, 0, 0
        for panel in row.panels:
            if left + panel.width > COLUMNS:
                left, top, tallest = 0, top + tallest, 0
            yield _panel(panel, number, {"x": left, "y": top, "w": panel.width, "h": panel.height})
            number, left, tallest = number + 1, left + panel.width, max(tallest, panel.height)
        top += tallest


def _panel(panel: Panel, number: int, place: dict[str, int]) -> Json:
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": [_target(panel, index, query) for index, query in enumerate(panel.queries)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
    }


def _target(panel: Panel, index: int, query: Query) -> Json:
    instant = panel.kind in ("table", "bargauge")
    target: Json = {
        "refId": chr(ord("A") + index),
        "datasource": SOURCE,
        "expr": query.expr,
        "legendFormat": query.legend or "__auto",
        "range": not instant,
        "instant": instant,
        "format": {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series"),
    }
    return target | ({"exemplar": True} if query.exemplars else {})


def _defaults(panel: Panel) -> Json:
    defaults: Json = {"unit": panel.unit, "min": 0}
    if panel.decimals is not None:
        defaults["decimals"] = panel.decimals
    steps: list[Json] = [{"color": "green", "value": None}]
    if panel.limit is not None:
        steps.append({"color": "red", "value": panel.limit})
    defaults["thresholds"] = {"mode": "absolute", "steps": steps}
    if panel.kind == "timeseries":
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 25 if panel.stacked else 5,
            "showPoints": "never",
            "spanNulls": 30_000,
            "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
            "thresholdsStyle": {"mode": "dashed" if panel.limit is not None else "off"},
        }
    return defaults


def _firing_alerts() -> Json:
    return {
        "name": "Alerts",
        "enable": True,
        "iconColor": "red",
        "datasource": SOURCE,
        "expr": 'ALERTS{alertname=~"Adafocus.*", alertstate="firing"}',
        "titleFormat": "{{alertname}}",
        "step": "15s",
    }


_REDUCED: Json = {"calcs": ["lastNotNull"], "fields": "", "values": False}

_OPTIONS: dict[Kind, Json] = {
    "timeseries": {
        "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "max", "lastNotNull"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    },
    "stat": {"reduceOptions": _REDUCED, "colorMode": "value", "graphMode": "area", "textMode": "auto"},
    "bargauge": {"reduceOptions": _REDUCED, "orientation": "vertical", "displayMode": "basic"},
    "heatmap": {
        "calculate": False,
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64},
        "cellGap": 1,
        "yAxis": {"unit": "short", "decimals": 0},
        "tooltip": {"mode": "single", "yHistogram": True},
    },
    "table": {"showHeader": True, "footer": {"show": False}},
}

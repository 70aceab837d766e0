"""The series that a query may name: those of the service's metrics, the recording rules and the GPU exporter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from adafocus.service.telemetry.camera_definitions import CAMERA_CATALOGUE
from adafocus.service.telemetry.definitions import CATALOGUE, Metric

METRICS = (*CATALOGUE, *CAMERA_CATALOGUE)

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKER = ROOT / "docker"
RULES = DOCKER / "prometheus" / "rules"

_NAME = re.compile(r"\b(?:adafocus(?::\w+)+|adafocus_\w+|DCGM_\w+)\b")
_SELECTOR = re.compile(r"\b(adafocus_\w+)\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"([^"]*)"')
_SUFFIXES = ("_bucket", "_sum", "_count")
_PROMETHEUS_OWN = {"instance", "job", "le"}


def rule_groups() -> Iterator[dict[str, Any]]:
    for file in sorted(RULES.glob("*.yml")):
        yield from yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in rule_groups() for rule in group["rules"]]


def counters() -> set[str]:
    lines = (DOCKER / "dcgm-counters.csv").read_text(encoding="utf-8").splitlines()
    return {line.split(",")[0].strip() for line in lines if line and not line.startswith("#")}


def unknown_names(expression: str) -> set[str]:
    """Metrics of an expression that nothing exposes."""
    known = {metric.name for metric in METRICS if metric.kind != "histogram"}
    known |= {metric.name + suffix for metric in METRICS if metric.kind == "histogram" for suffix in _SUFFIXES}
    known |= {rule["record"] for rule in rules() if "record" in rule} | counters()
    return set(_NAME.findall(expression)) - known


def unknown_matchers(expression: str) -> list[str]:
    """Label matchers of an expression that can match no series of the catalogue."""
    wrong = []
    for name, matchers in _SELECTOR.findall(expression):
        labels = _metric(name).labels
        for label, pattern in _MATCHER.findall(matchers):
            if label in _PROMETHEUS_OWN:
                continue
            values = labels.get(label)
            if values is None or (values and not any(re.fullmatch(pattern, value) for value in values)):
                wrong.append(f'{name}{{{label}="{pattern}"}}')
    return wrong


def _metric(series: str) -> Metric:
    for metric in METRICS:
        if series == metric.name or (metric.kind == "histogram" and series.removeprefix(metric.name) in _SUFFIXES):
            return metric
    raise LookupError(series)

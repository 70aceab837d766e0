"""Runs every query of every dashboard against a running Prometheus, as Grafana would.

usage: dashboards.py PROMETHEUS_URL DASHBOARD.json...

Exit code 1 if a query is invalid, has no data or only NaN, if a legend names a label that the result lacks, or if a
panel has no unit or no description. Standard library only.
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SPAN_SECONDS, STEP_SECONDS = 60, 5
VARIABLES = {"$__rate_interval": "20s"}


def series(prometheus: str, expression: str) -> list[dict[str, Any]]:
    """The series of a range query over the last minute.

    Raises:
        ValueError: Prometheus rejects the query; the message is its error text.
    """
    now = time.time()
    query = {"query": expression, "start": now - SPAN_SECONDS, "end": now, "step": STEP_SECONDS}
    url = f"{prometheus}/api/v1/query_range?{urllib.parse.urlencode(query)}"
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            result: list[dict[str, Any]] = json.load(response)["data"]["result"]
            return result
    except urllib.error.HTTPError as error:
        raise ValueError(json.load(error).get("error", "")) from error


def findings(prometheus: str, panel: dict[str, Any]) -> Iterator[str]:
    """Yield one sentence for each problem of a panel."""
    if not panel.get("description"):
        yield "has no description"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "has no unit"
    for target in panel["targets"]:
        expression = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        try:
            found = series(prometheus, expression)
        except ValueError as error:
            yield f"{expression}: {error}"
            continue
        values = [value for one in found for _, value in one["values"]]
        if not any(value != "NaN" for value in values):
            yield f"{expression}: no data"
        for label in re.findall(r"{{\s*(\w+)\s*}}", target.get("legendFormat", "")):
            if found and not any(label in one["metric"] for one in found):
                yield f"{expression}: the legend names {label!r}, which no series has"


def main(prometheus: str, files: list[str]) -> int:
    """Check every file, print the findings, and return the exit code."""
    wrong = queries = 0
    for file in files:
        board = json.loads(Path(file).read_text(encoding="utf-8"))
        for panel in board["panels"]:
            if panel["type"] != "row":
                queries += len(panel["targets"])
                for finding in findings(prometheus, panel):
                    wrong += 1
                    print(f"dashboards: {Path(file).name}, {panel['title']!r}: {finding}")
    print(f"dashboards: {len(files)} files, {queries} queries, {wrong} findings")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

"""Writes the schema of the chart's values: the values by hand, the settings from `service.settings`.

Run ``python deploy/helm/write_schema.py``. A test checks that the file is what this makes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adafocus.service.settings import Settings

SCHEMA = Path(__file__).parent / "adafocus" / "values.schema.json"

OF_THE_CHART = frozenset({"host", "port", "bundle", "api_keys", "api_keys_file"})
"""Settings that other values set. API keys belong in a Secret, and not in a file of values."""

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
OPEN: Schema = {"type": "object"}
ITEMS: Schema = {"type": "array", "items": OPEN}
QUANTITY: Schema = {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?(k|M|G|T|Ki|Mi|Gi|Ti)?$"}


def whole(least: int) -> Schema:
    """A whole number."""
    return {"type": "integer", "minimum": least}


def share_or_count() -> Schema:
    """A number of pods, or a percentage of them."""
    return {"anyOf": [whole(0), {"type": "string", "pattern": "^[0-9]+%$"}]}


def closed(**properties: Schema) -> Schema:
    """An object that has no other members."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def setting(schema: Schema) -> Schema:
    """The schema of a setting, without what means nothing to Helm; a list may also be written with commas."""
    kept = {name: value for name, value in schema.items() if name not in ("title", "default", "format", "writeOnly")}
    if kept.get("type") == "array":
        return {"anyOf": [{"type": "array", "items": TEXT}, TEXT], "description": kept["description"]}
    if "anyOf" in kept:
        kept["anyOf"] = [setting(each) for each in kept["anyOf"] if each.get("type") != "null"]
    return kept


def settings() -> Schema:
    """The settings of the service that a value may set."""
    given = Settings.model_json_schema()["properties"]
    offered = {name: setting(schema) for name, schema in given.items() if name not in OF_THE_CHART}
    required = ["drain_grace_seconds", "request_timeout_seconds"]
    return {**closed(**offered), "required": required}


def make_schema() -> Schema:
    """The schema of values.yaml."""
    values = closed(
        image=closed(
            repository=TEXT,
            tag=TEXT,
            digest={"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        ),
        imagePullSecrets=ITEMS,
        replicas=whole(0),
        settings=settings(),
        stopMarginSeconds=whole(0),
        extraEnv=ITEMS,
        bundle=closed(path={"type": "string", "pattern": "^/"}, volume=OPEN),
        apiKeysSecret=TEXT,
        uploadSpace=QUANTITY,
        resources=closed(requests=OPEN, limits=OPEN, claims=ITEMS),
        gpu=closed(enabled=FLAG, resource=TEXT, runtimeClassName=TEXT),
        service=closed(type={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, port={**whole(1), "maximum": 65535}),
        autoscaling=closed(
            enabled=FLAG,
            minReplicas=whole(1),
            maxReplicas=whole(1),
            prometheus={"type": "string", "pattern": "^https?://"},
            target={"type": "number", "exclusiveMinimum": 0, "maximum": 10},
            scaleDownAfterSeconds={**whole(0), "maximum": 3600},
        ),
        podMonitor=closed(enabled=FLAG, intervalSeconds=whole(1), labels=OPEN, keySecret=closed(name=TEXT, key=TEXT)),
        podDisruptionBudget=closed(enabled=FLAG, maxUnavailable=share_or_count()),
        networkPolicy=closed(**{"enabled": FLAG, "from": ITEMS, "egress": ITEMS}),
        strategy=closed(maxSurge=share_or_count(), maxUnavailable=share_or_count()),
        serviceAccountName=TEXT,
        podAnnotations=OPEN,
        podLabels=OPEN,
        nodeSelector=OPEN,
        tolerations=ITEMS,
        affinity=OPEN,
        priorityClassName=TEXT,
    )
    values["properties"]["global"] = OPEN  # Helm gives this to every chart
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of the chart adafocus", **values}


def text() -> str:
    """The content of values.schema.json."""
    return json.dumps(make_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(text(), encoding="utf-8")

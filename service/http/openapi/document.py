"""Builds the OpenAPI document: the descriptions of the routes, completed from the bundle and the settings."""

from __future__ import annotations

import copy
import re
import warnings

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from adafocus.bundle.manifest import Manifest
from adafocus.service.http.openapi import examples
from adafocus.service.http.openapi.operations import COMPONENT, Json, elsewhere
from adafocus.service.progress import GIGA
from adafocus.service.schemas.by_url import UrlRequest
from adafocus.service.schemas.classify import EventAnswer, SegmentAnswer, StepEvent
from adafocus.service.schemas.open_inference import InferenceRequest, InferenceResponse, ModelMetadata, ModelReady
from adafocus.service.schemas.parameters import DEFAULT_TOP_K, MAX_GFLOPS, MAX_MILLISECONDS
from adafocus.service.settings import Settings

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_WITHOUT_KEY = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready")


def install(app: FastAPI, manifest: Manifest, settings: Settings) -> None:
    """Make the application's OpenAPI document name the bundle's model and limits, and the API keys."""

    def document() -> Json:
        if app.openapi_schema is None:
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # `complete` names the operations
                routes = get_openapi(
                    title=app.title, version=app.version, description=app.description, routes=app.routes
                )
            app.openapi_schema = complete(routes, manifest, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def complete(document: Json, manifest: Manifest, settings: Settings) -> Json:
    """Complete the document with what only the bundle and the settings know."""
    document = copy.deepcopy(document)
    paths, components = document["paths"], document["components"]
    models = [
        (model, "validation")
        for model in (StepEvent, SegmentAnswer, EventAnswer, UrlRequest, InferenceRequest, InferenceResponse)
    ]
    _, found = models_json_schema(models, ref_template=COMPONENT)  # type: ignore[arg-type] # the literal widens to str
    components["schemas"] |= found["$defs"]
    components["responses"] = elsewhere()
    successful_responses = _successful_responses(manifest)
    for path, item in paths.items():
        for method, operation in item.items():
            operation["operationId"] = re.sub(r"\W+", "_", f"{method}{path}").strip("_")
            _name_the_model(path, operation, manifest)
            for media_type, answer in successful_responses.get(path, {}).items():
                operation["responses"]["200"]["content"][media_type] |= answer
    bounds = {
        "exit": {"enum": [point.name for point in manifest.operating_points], "default": manifest.default_point},
        "top_k": {"minimum": 1, "maximum": len(manifest.labels)},
        "max_gflops": {"minimum": manifest.flops.per_step / GIGA, "maximum": MAX_GFLOPS},
        "max_decode_ms": {"minimum": 1, "maximum": MAX_MILLISECONDS},
        "deadline_ms": {"minimum": 1, "maximum": MAX_MILLISECONDS},
    }
    for classify in paths["/classify"].values():
        for parameter in classify["parameters"]:
            parameter["schema"] |= bounds.get(parameter["name"], {})
            if parameter["name"] == "top_k":
                parameter["schema"]["default"] = min(DEFAULT_TOP_K, len(manifest.labels))
            parameter["schema"].pop("exclusiveMinimum", None)
    for name, bound in bounds.items():
        components["schemas"]["RequestParameters"]["properties"][name]["anyOf"][0] |= bound
    if settings.api_keys or settings.api_keys_file:
        components["securitySchemes"] = _KEYS
        _require_key(paths, settings)
    return document


def _successful_responses(manifest: Manifest) -> dict[str, Json]:
    """An example of each successful response that depends on the bundle, by path and media type."""
    by_route: dict[str, Json] = {
        "": _json_example(ModelMetadata.of(manifest)),
        "/ready": _json_example(ModelReady(name=manifest.name, ready=True)),
        "/infer": {
            "application/json": {"example": examples.inferred_in_json(manifest)},
            "application/octet-stream": {"example": examples.inferred_in_bytes(manifest)},
        },
    }
    models = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")
    return {
        "/classify": {
            **_json_example(examples.classification(manifest)),
            "text/event-stream": {"examples": examples.events(manifest)},
        },
        "/model": _json_example(manifest),
        **{model + route: answers for model in models for route, answers in by_route.items()},
    }


def _json_example(answer: BaseModel) -> Json:
    return {"application/json": {"example": answer.model_dump(mode="json")}}


def _name_the_model(path: str, operation: Json, manifest: Manifest) -> None:
    known = {"name": manifest.name, "version": manifest.version}
    for name in re.findall(r"{(\w+)}", path):
        schema = {"type": "string", "enum": [known[name]]}
        parameter = {"name": name, "in": "path", "required": True, "schema": schema}
        operation.setdefault("parameters", []).append(parameter)


def _require_key(paths: Json, settings: Settings) -> None:
    for path, item in paths.items():
        without_key = path.endswith("/ready") or path in _WITHOUT_KEY
        if without_key or (path == "/metrics" and not settings.metrics_need_key):
            continue
        for operation in item.values():
            operation["security"] = [{name: []} for name in _KEYS]

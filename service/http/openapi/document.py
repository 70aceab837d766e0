"""Builds the OpenAPI document: the descriptions of the routes, completed from the bundles and the settings."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterable, Sequence

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from adafocus.bundle.manifest import Manifest
from adafocus.service.http.openapi import examples
from adafocus.service.http.openapi.operations import COMPONENT, Json, elsewhere
from adafocus.service.models.registry import Models
from adafocus.service.progress import GIGA
from adafocus.service.schemas.by_url import UrlRequest
from adafocus.service.schemas.classify import EventAnswer, SegmentAnswer, StepEvent
from adafocus.service.schemas.open_inference import InferenceRequest, InferenceResponse, ModelMetadata, ModelReady
from adafocus.service.schemas.parameters import DEFAULT_TOP_K, MAX_GFLOPS, MAX_MILLISECONDS, MODEL
from adafocus.service.settings import Settings

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_NOTHING: Json = {"application/json": {"example": {}}}
_WITHOUT_KEY = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready")


def install(app: FastAPI, models: Models, settings: Settings) -> None:
    """Make the application's OpenAPI document name the models with their limits, and the API keys."""
    described: list[Manifest] = []

    def document() -> Json:
        manifests = [models.of(None).manifest, *(model.manifest for model in models if model.wanted)]
        if app.openapi_schema is None or manifests != described:
            described[:] = manifests
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # `complete` names the operations
                routes = get_openapi(
                    title=app.title, version=app.version, description=app.description, routes=app.routes
                )
            app.openapi_schema = complete(routes, manifests, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's own way to extend it


def complete(document: Json, manifests: Sequence[Manifest], settings: Settings) -> Json:
    """Complete the document with what only the bundles and the settings know.

    Args:
        document: made from the routes.
        manifests: of all models, that of the default model first; it may be there twice.
        settings: of the service.
    """
    manifest = manifests[0]
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
            _name_the_model(path, operation, manifests)
            for media_type, answer in successful_responses.get(path, {}).items():
                operation["responses"]["200"]["content"][media_type] |= answer
    bounds: dict[str, Json] = {
        "exit": {"enum": _unique(point.name for each in manifests for point in each.operating_points)},
        "top_k": {"minimum": 1, "maximum": max(len(each.labels) for each in manifests)},
        "max_gflops": {"minimum": min(each.flops.per_step for each in manifests) / GIGA, "maximum": MAX_GFLOPS},
        "max_decode_ms": {"minimum": 1, "maximum": MAX_MILLISECONDS},
        "deadline_ms": {"minimum": 1, "maximum": MAX_MILLISECONDS},
    }
    if len({each.default_point for each in manifests}) == 1:
        bounds["exit"]["default"] = manifest.default_point
    named = {MODEL: {"enum": _unique(each.name for each in manifests), "default": manifest.name}}
    for parameter in paths["/model"]["get"]["parameters"]:
        parameter["schema"] |= named[parameter["name"]]
    for classify in paths["/classify"].values():
        for parameter in classify["parameters"]:
            parameter["schema"] |= (bounds | named).get(parameter["name"], {})
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
        "/models": _json_example(examples.models(manifest)),
        "/v2/repository/index": {"application/json": {"example": [examples.model_state(manifest).model_dump()]}},
        **{f"/v2/repository/models/{{name}}/{verb}": _NOTHING for verb in ("load", "unload")},
        **{model + route: answers for model in models for route, answers in by_route.items()},
    }


def _unique(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def _json_example(answer: BaseModel) -> Json:
    return {"application/json": {"example": answer.model_dump(mode="json")}}


def _name_the_model(path: str, operation: Json, manifests: Sequence[Manifest]) -> None:
    known = {name: _unique(getattr(each, name) for each in manifests) for name in ("name", "version")}
    for name in re.findall(r"{(\w+)}", path):
        schema = {"type": "string", "enum": known[name]}
        parameter = {"name": name, "in": "path", "required": True, "schema": schema}
        operation.setdefault("parameters", []).append(parameter)


def _require_key(paths: Json, settings: Settings) -> None:
    for path, item in paths.items():
        without_key = path.endswith("/ready") or path in _WITHOUT_KEY
        if without_key or (path == "/metrics" and not settings.metrics_need_key):
            continue
        for operation in item.values():
            operation["security"] = [{name: []} for name in _KEYS]

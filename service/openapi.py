"""The OpenAPI document of one service: what its routes say, and what only its bundle and its settings know."""

from __future__ import annotations

import copy
import re
import warnings

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from bundle.manifest import Manifest
from service.api_description import COMPONENT, REQUEST_ID, Json
from service.protocol import InferenceRequest, InferenceResponse
from service.schemas import (
    DEFAULT_TOP_K,
    MAX_DEADLINE_MS,
    MAX_GFLOPS,
    Classification,
    ComputeAnswer,
    ExitAnswer,
    ModelAnswer,
    PatchAnswer,
    Prediction,
    StepEvent,
    TimingAnswer,
    TraceEntry,
    VideoAnswer,
)
from service.settings import Settings
from service.steps import GIGA

_KEYS = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "an API key"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_BEFORE_THE_DOOR = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/v2/models/{name}/ready")


def install(app: FastAPI, manifest: Manifest, settings: Settings) -> None:
    """Let the application describe itself as it is: with its bundle's names and bounds, and its keys."""

    def document() -> Json:
        if app.openapi_schema is None:
            with warnings.catch_warnings(action="ignore", category=UserWarning):  # `complete` names the operations
                routes = get_openapi(
                    title=app.title, version=app.version, description=app.description, routes=app.routes
                )
            app.openapi_schema = complete(routes, manifest, settings)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def complete(document: Json, manifest: Manifest, settings: Settings) -> Json:
    """The document with what the routes could not know."""
    document = copy.deepcopy(document)
    paths, components = document["paths"], document["components"]
    models = [(model, "validation") for model in (StepEvent, InferenceRequest, InferenceResponse)]
    _, found = models_json_schema(models, ref_template=COMPONENT)  # type: ignore[arg-type]
    components["schemas"] |= found["$defs"]
    for path, item in paths.items():
        for method, operation in item.items():
            operation["operationId"] = re.sub(r"\W+", "_", f"{method}{path}").strip("_")
            _name_the_model(path, operation, manifest)
    bounds = {
        "exit": {"enum": [point.name for point in manifest.operating_points], "default": manifest.default_point},
        "top_k": {"minimum": 1, "maximum": len(manifest.labels)},
        "max_gflops": {"minimum": manifest.flops.per_step / GIGA, "maximum": MAX_GFLOPS},
        "deadline_ms": {"minimum": 1, "maximum": MAX_DEADLINE_MS},
    }
    for classify in paths["/classify"].values():
        for parameter in classify["parameters"]:
            parameter["schema"] |= bounds.get(parameter["name"], {})
            if parameter["name"] == "top_k":
                parameter["schema"]["default"] = min(DEFAULT_TOP_K, len(manifest.labels))
            parameter["schema"].pop("exclusiveMinimum", None)
        good = classify["responses"]["200"]["content"]
        good["application/json"]["example"] = example(manifest).model_dump(mode="json")
    for name, bound in bounds.items():
        components["schemas"]["RequestParameters"]["properties"][name]["anyOf"][0] |= bound
    if settings.api_keys or settings.api_keys_file:
        components["securitySchemes"] = _KEYS
        _lock(paths, settings)
    return document


def _name_the_model(path: str, operation: Json, manifest: Manifest) -> None:
    known = {"name": manifest.name, "version": manifest.version}
    for name in re.findall(r"{(\w+)}", path):
        schema = {"type": "string", "enum": [known[name]]}
        parameter = {"name": name, "in": "path", "required": True, "schema": schema}
        operation.setdefault("parameters", []).append(parameter)


def _lock(paths: Json, settings: Settings) -> None:
    for path, item in paths.items():
        open_to_all = path.endswith("/ready") or path in _BEFORE_THE_DOOR
        if open_to_all or (path == "/metrics" and not settings.metrics_need_key):
            continue
        for operation in item.values():
            operation["security"] = [{name: []} for name in _KEYS]


def example(manifest: Manifest) -> Classification:
    """An answer as this bundle might give it."""
    labels = manifest.labels[:2]
    step = min(2, manifest.steps)
    per_step = manifest.flops.per_step / GIGA
    confidence = 0.93
    return Classification(
        id=REQUEST_ID,
        model=ModelAnswer(name=manifest.name, version=manifest.version, precision="fp32", backend="onnxruntime-cpu"),
        predictions=[
            Prediction(label=label, index=index, score=(confidence, 0.04)[index]) for index, label in enumerate(labels)
        ],
        exit=ExitAnswer(
            point=manifest.default_point,
            reason="confident",
            step=step,
            steps=manifest.steps,
            confidence=confidence,
            threshold=0.88,
        ),
        compute=ComputeAnswer(
            gflops=step * per_step,
            gflops_full=manifest.flops_full / GIGA,
            glance_gflops=step * manifest.flops.glance / GIGA,
            focus_gflops=step * manifest.flops.focus / GIGA,
            frames_used=step,
            frames_decoded=61,
        ),
        timing_ms=TimingAnswer(total=41.0, upload=2.0, queue=0.3, decode=9.1, glance=7.0, focus=21.9),
        video=VideoAnswer(container="mp4", codec="h264", width=640, height=360, fps=25.0, duration_s=9.8, frames=245),
        trace=[
            TraceEntry(
                step=1,
                frame=122,
                time_s=4.88,
                patch=PatchAnswer(x=88, y=40, width=180, height=180),
                label=labels[0],
                confidence=0.41,
            )
        ],
    )

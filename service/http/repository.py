"""The routes that tell of models and manage them: ``/model``, ``/models`` and Triton's model repository of ``/v2``."""

from __future__ import annotations

from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from adafocus.bundle.manifest import Manifest
from adafocus.service.errors import (
    BadBundle,
    BadParameter,
    Draining,
    NotPermitted,
    Overloaded,
    RateLimited,
    Unauthorized,
    UnknownModel,
)
from adafocus.service.http.openapi import operations
from adafocus.service.http.state import ServerState, server_state
from adafocus.service.models.version import Model
from adafocus.service.schemas.models import ModelList, ModelState, ModelSummary, State
from adafocus.service.schemas.parameters import MODEL, model_and_rest

router = APIRouter()

_REPOSITORY = "Model repository"
_MANAGED = operations.protocol_problems(
    Unauthorized, NotPermitted, UnknownModel, BadBundle, RateLimited, Overloaded, Draining
)


@router.get(
    "/model",
    summary="A model",
    response_model=Manifest,
    responses=operations.only(Unauthorized, UnknownModel, BadParameter, RateLimited),
    openapi_extra=operations.model_parameter(),
)
async def model(request: Request) -> Response:
    """Return the manifest of a bundle: labels, operating points, FLOPs."""
    server = server_state(request)
    server.access.authenticate(request)
    query = request.scope["query_string"].decode("latin-1")
    name, rest = model_and_rest(parse_qsl(query, keep_blank_values=True))
    if rest:
        raise BadParameter(f"unknown parameter {rest[0][0][:40]!r}; allowed: {MODEL}")
    return Response(server.models.of(name).manifest.model_dump_json(), media_type="application/json")


@router.get(
    "/models", summary="All models", response_model=ModelList, responses=operations.only(Unauthorized, RateLimited)
)
async def models(request: Request) -> Response:
    """Return the models that this service has, and which of them answers requests that name none."""
    server = server_state(request)
    server.access.authenticate(request)
    listed = ModelList(default=server.models.default, models=tuple(map(_summary, server.models)))
    return Response(listed.model_dump_json(), media_type="application/json")


@router.api_route(
    "/v2/repository/index",
    methods=["GET", "POST"],  # Triton's clients send POST
    tags=[_REPOSITORY],
    summary="All models and their state",
    response_model=list[ModelState],
    responses=operations.protocol_problems(Unauthorized, RateLimited),
)
async def index(request: Request) -> Response:
    """Return every model that this service has, with its version and whether it answers."""
    server = server_state(request)
    server.access.authenticate(request)
    return JSONResponse([_state(each).model_dump() for each in server.models])


@router.post(
    "/v2/repository/models/{name}/load",
    tags=[_REPOSITORY],
    summary="Load a model, or its newest version",
    responses=_MANAGED,
)
async def load(request: Request) -> Response:
    """Load the bundle beside the version that answers now; return 200 once requests go to the new one."""
    server = _manageable(request)
    await server.models.load(request.path_params["name"])
    return JSONResponse({})


@router.post("/v2/repository/models/{name}/unload", tags=[_REPOSITORY], summary="Unload a model", responses=_MANAGED)
async def unload(request: Request) -> Response:
    """Send no more requests to a model. Its memory is given back once it has answered those that it has."""
    server = _manageable(request)
    await server.models.unload(request.path_params["name"])
    return JSONResponse({})


def _manageable(request: Request) -> ServerState:
    """The state of a service whose models the caller may manage.

    Raises:
        Unauthorized: no valid key was sent.
        NotPermitted: it is switched off.
    """
    server = server_state(request)
    server.access.authenticate(request)
    if not server.settings.repository_api:
        raise NotPermitted("loading and unloading over HTTP is off; ADAFOCUS_REPOSITORY_API=true permits it")
    return server


def _state(model: Model) -> ModelState:
    manifest = model.manifest
    return ModelState(name=manifest.name, version=manifest.version, state=_word(model), reason=model.error)


def _word(model: Model) -> State:
    if model.alive:
        return "READY"
    return "LOADING" if model.wanted and model.version is None else "UNAVAILABLE"


def _summary(model: Model) -> ModelSummary:
    manifest = model.manifest
    return ModelSummary(
        **_state(model).model_dump(),
        kind=manifest.kind,
        labels=len(manifest.labels),
        operating_points=tuple(point.name for point in manifest.operating_points),
        default_point=manifest.default_point,
    )

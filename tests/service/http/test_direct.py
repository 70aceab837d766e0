from __future__ import annotations

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from adafocus.service.http.direct import DirectRoutes

router = APIRouter()


@router.api_route("/near", methods=["POST", "PUT"], summary="Near", response_model=dict[str, str])
async def near(request: Request) -> Response:
    return PlainTextResponse(
        f"{request.scope['route'].path} {len(await request.body())} {request.query_params.get('a')}"
    )


@router.get("/far")
async def far() -> Response:
    return PlainTextResponse("far")


async def ask(app: ASGIApp, method: str, path: str, content: bytes = b"", root_path: str = "") -> httpx.Response:
    transport = httpx.ASGITransport(app, root_path=root_path)
    async with httpx.AsyncClient(transport=transport, base_url="http://h") as client:
        return await client.request(method, path, content=content)


class Marks:
    """Notes which requests come further than `DirectRoutes`."""

    def __init__(self, app: ASGIApp, seen: list[str]) -> None:
        self.app = app
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._seen.append(f"{scope.get('method')} {scope.get('path')}")
        await self.app(scope, receive, send)


@pytest.fixture
def seen() -> list[str]:
    return []


@pytest.fixture
def app(seen: list[str]) -> FastAPI:
    app = FastAPI()
    routes = [route for route in router.routes if isinstance(route, APIRoute) and route.path == "/near"]
    app.add_middleware(Marks, seen=seen)
    app.add_middleware(DirectRoutes, routes=routes)
    app.include_router(router)
    return app


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_direct_route_is_called_without_the_framework(app: FastAPI, seen: list[str], method: str) -> None:
    answer = await ask(app, method, "/near?a=b", b"abc")
    assert (answer.status_code, answer.text) == (200, "/near 3 b")
    assert seen == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/far", 200),
        ("GET", "/near", 405),
        ("OPTIONS", "/near", 405),
        ("POST", "/near/", 307),
        ("POST", "/x", 404),
    ],
)
async def test_everything_else_is_passed_on(app: FastAPI, seen: list[str], method: str, path: str, status: int) -> None:
    assert (await ask(app, method, path)).status_code == status
    assert seen[0] == f"{method} {path}"


async def test_under_a_root_path_the_framework_finds_the_route(app: FastAPI, seen: list[str]) -> None:
    answer = await ask(app, "POST", "/root/near", b"abc", root_path="/root")
    assert answer.text == "/near 3 None"
    assert len(seen) == 1

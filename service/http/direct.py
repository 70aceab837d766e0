"""Calls some endpoints directly, because the framework's layers in front of a route cost more than HTTP itself."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send


class DirectRoutes:
    """Calls the endpoints of some routes itself, and passes every other request on.

    The routes stay in the application, which describes them and answers near misses: another method, or a path with a
    trailing slash. For each request FastAPI enters three exit stacks and resolves dependencies, and passes through some
    fifteen coroutines every time the request is resumed. These endpoints need none of that.

    Args:
        app: handles all other requests.
        routes: without path parameters, whose endpoints take the request alone, return a response, and turn every
            error into one.
    """

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute]) -> None:
        self.app = app
        self._routes = {(method, route.path): route for route in routes for method in route.methods or ()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope."""
        route = None
        if scope["type"] == "http" and not scope.get("root_path"):
            route = self._routes.get((scope["method"], scope["path"]))
        if route is None:
            await self.app(scope, receive, send)
            return
        scope["route"] = route  # the log, the metrics and traces name it
        response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)

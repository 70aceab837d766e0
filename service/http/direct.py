"""A short way to a route: the framework's layers around it cost more than HTTP itself."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import FastAPI
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

    def serves(self, scope: Scope) -> bool:
        """Whether it calls the endpoint for a request itself."""
        return (
            scope["type"] == "http"
            and (scope["method"], scope["path"]) in self._routes
            and not scope.get("root_path")  # the framework takes it off the path
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope."""
        if not self.serves(scope):
            await self.app(scope, receive, send)
            return
        route = scope["route"] = self._routes[scope["method"], scope["path"]]  # the log, the metrics and traces name it
        response = await route.endpoint(Request(scope, receive, send))
        await response(scope, receive, send)


class Application(FastAPI):
    """FastAPI, except that some requests go around all of it. `take_around` says which, and through what instead.

    Attributes:
        gate: all requests come through it first; it passes those that it does not refuse to `admitted`.
    """

    gate: ASGIApp

    def take_around(self, direct: DirectRoutes, way: ASGIApp) -> None:
        """Have the requests that ``direct`` serves handled by ``way``, which ends in ``direct``."""
        self._direct, self._way = direct, way

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope."""
        await self.gate(scope, receive, send)

    async def admitted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection event scope that the gate has let through."""
        if self._direct.serves(scope):
            scope["app"] = self
            await self._way(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

"""Serves the web page from memory, and the sample clips. The page loads nothing from other hosts."""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from adafocus.service.errors import NotFound

FRONT = "index.html"
DOCS = "docs.html"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_GUARDS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_SAMPLE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.(mp4|webm|mkv|mov|avi|gif)")
_NOTICE = "README.md"
"""A file beside the samples with their sources and licences."""


@dataclass(frozen=True, slots=True)
class Asset:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str


@dataclass(frozen=True, slots=True)
class Page:
    """The files of the web page, all known from the start: no request can name another file.

    Attributes:
        assets: by name.
        samples: sample clips and their notice, by name.
    """

    assets: Mapping[str, Asset]
    samples: Mapping[str, Path]

    @classmethod
    def load(cls, samples: Path | None) -> Page:
        """Read the files of the page and list the sample clips."""
        assets = {}
        for file in (resources.files("adafocus.service") / "web").iterdir():
            media_type = _TYPES.get(Path(file.name).suffix)
            if media_type is not None:
                content = file.read_bytes()
                assets[file.name] = Asset(content, media_type, f'"{hashlib.sha256(content).hexdigest()[:20]}"')
        found = sorted(samples.iterdir()) if samples is not None and samples.is_dir() else []
        kept = {file.name: file for file in found if file.is_file() and _is_sample(file.name)}
        return cls(assets, kept)


def router_for(page: Page) -> APIRouter:
    """The routes of the page."""
    router = APIRouter(include_in_schema=False)

    async def front(request: Request) -> Response:
        return _answer(page, FRONT, request)

    async def docs(request: Request) -> Response:
        return _answer(page, DOCS, request)

    async def asset(request: Request, name: str) -> Response:
        return _answer(page, name, request)

    async def samples() -> Response:
        clips = [name for name in page.samples if name != _NOTICE]
        notice = f"samples/{_NOTICE}" if _NOTICE in page.samples else None
        listed = [{"name": name, "url": f"samples/{name}"} for name in clips]
        return JSONResponse({"clips": listed, "notice": notice}, headers={"Cache-Control": "no-cache"})

    async def sample(name: str) -> Response:
        if name not in page.samples:
            raise NotFound(f"there is no sample {name[:64]!r}; available: {', '.join(page.samples) or 'none'}")
        kind = "text/plain; charset=utf-8" if name == _NOTICE else mimetypes.guess_type(name)[0]
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache"}
        return FileResponse(page.samples[name], media_type=kind, headers=headers)

    for path, endpoint in (("/", front), ("/docs", docs), ("/web/{name}", asset)):
        router.add_api_route(path, endpoint)
    router.add_api_route("/samples", samples)
    router.add_api_route("/samples/{name}", sample)
    return router


def assets_router(page: Page, front: str) -> APIRouter:
    """The routes of another page of the same assets.

    Args:
        page: with the assets.
        front: name of the one that ``/`` answers.
    """
    router = APIRouter(include_in_schema=False)

    async def start(request: Request) -> Response:
        return _answer(page, front, request)

    async def asset(request: Request, name: str) -> Response:
        return _answer(page, name, request)

    router.add_api_route("/", start)
    router.add_api_route("/web/{name}", asset)
    return router


def _is_sample(name: str) -> bool:
    return name == _NOTICE or _SAMPLE.fullmatch(name) is not None


def _answer(page: Page, name: str, request: Request) -> Response:
    asset = page.assets.get(name)
    if asset is None:
        raise NotFound(f"the web page has no file {name[:64]!r}")
    headers = {**_GUARDS, "ETag": asset.etag, "Cache-Control": "no-cache"}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(asset.content, headers=headers, media_type=asset.media_type)

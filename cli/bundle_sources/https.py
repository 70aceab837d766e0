"""Bundles on web servers, over HTTPS alone; redirects must not leave it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener

from adafocus.cli.bundle_sources.base import CHUNK_BYTES, MissingFileError, SourceError, shown

_PATIENCE_SECONDS = 60.0
_NOT_FOUND = 404


class HttpsFolder:
    """A folder at a URL, which holds manifest.json and the files that it names. A query is sent with each of them."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._opener = HttpsOpener()

    def fetch(self, name: str) -> Iterator[bytes]:
        """See `BundleSource`."""
        parts = urlsplit(self._url)
        inside = urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}", fragment=""))
        try:
            with self._opener.open(inside) as answer:
                yield from chunks(answer)
        except HTTPError as error:
            error.close()
            raise (MissingFileError if error.code == _NOT_FOUND else SourceError)(str(error)) from error


class HttpsOpener:
    """Opens URLs over HTTPS, and follows redirects to HTTPS only: what was asked for over TLS does not come without."""

    def __init__(self) -> None:
        self._opener = build_opener(ProxyHandler(), HTTPSHandler(), _OnlyHttps())

    @contextmanager
    def open(
        self, url: str, headers: Mapping[str, str] | None = None, authorization: str | None = None
    ) -> Iterator[HTTPResponse]:
        """Open a URL. The authorization is for its server alone: it is not sent to where that redirects.

        Raises:
            HTTPError: the server answers with an error.
            SourceError: there is no answer.
        """
        request = Request(url, headers=dict(headers or {}))  # noqa: S310 - callers give https:// only
        if authorization is not None:
            request.add_unredirected_header("Authorization", authorization)
        try:
            with self._opener.open(request, timeout=_PATIENCE_SECONDS) as answer:
                yield answer
        except HTTPError:
            raise
        except (OSError, HTTPException) as error:
            raise SourceError(str(error.reason if isinstance(error, URLError) else error)) from error


def chunks(answer: HTTPResponse) -> Iterator[bytes]:
    """Yield a body piece by piece."""
    while chunk := answer.read(CHUNK_BYTES):
        yield chunk


class _OnlyHttps(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        """Return the request to the new address.

        Raises:
            URLError: it is not HTTPS.
        """
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise URLError(f"it redirects to {shown(newurl)}, which is not https://")
        return super().redirect_request(req, fp, code, msg, headers, newurl)

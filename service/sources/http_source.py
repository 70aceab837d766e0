"""A video behind an http or https URL, read in ranges where the server offers them."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

import httpcore
import httpx

from adafocus.service.errors import SourceUnavailable, UrlNotAllowed
from adafocus.service.sources.dialer import CheckedNetwork, client_context
from adafocus.service.sources.policy import UrlPolicy

MAX_REDIRECTS = 5
FIRST_BYTES = 1 << 16
"""What the first request asks for: where a video has its header, and often all of a small one."""
CONNECT_SECONDS = 10.0

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19})")
_NO_RANGES_HERE = "the server answered a request for a part of the file with something else"
_CHANGED = "the file changed while it was read"


@dataclass(slots=True)
class _Answer:
    """The head of a response, and its body, which must be closed."""

    status: int
    headers: Mapping[str, str]
    response: httpcore.Response
    url: httpx.URL


class HttpSource:
    """Reads a URL. Every redirect is checked like the URL itself, and every address before it is dialled.

    The first request asks for the first bytes. If the server answers with that part, further parts are read on demand,
    each on condition that the file is still the same; otherwise its answer is the file.

    Args:
        url: of the video; a user name and a password in it are sent to its own host only, and never logged.
        policy: which URLs are permitted.
        stall_seconds: longest time without a byte.
        network: opens the connections; tests pass their own.
    """

    def __init__(
        self,
        url: str,
        policy: UrlPolicy,
        *,
        stall_seconds: float = 20.0,
        network: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self._url = policy.check(url)
        self._policy = policy
        self._timeouts = {
            "connect": min(CONNECT_SECONDS, stall_seconds),
            "read": stall_seconds,
            "write": stall_seconds,
            "pool": stall_seconds,
        }
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=client_context(),
            max_connections=4,
            network_backend=network or CheckedNetwork(private=policy.private),
        )
        self._held = AsyncExitStack()
        self._first: _Answer | None = None
        self._validator: str | None = None
        self._etag: str | None = None
        self.size: int | None = None
        self.ranged = False

    async def open(self) -> None:
        """Send the first request and see what the server offers."""
        answer = await self._ask({"Range": f"bytes=0-{FIRST_BYTES - 1}"})
        self._url = answer.url  # further parts are asked for where the first one came from
        self._first = answer
        if answer.status == 206:
            start, _, self.size = _range_of(answer)
            if start:
                raise SourceUnavailable(_NO_RANGES_HERE)
            self.ranged = True
            self._etag = answer.headers.get("etag")
            strong = self._etag is not None and not self._etag.startswith("W/")
            self._validator = self._etag if strong else answer.headers.get("last-modified")
        else:
            declared = answer.headers.get("content-length", "")
            self.size = int(declared) if re.fullmatch(r"\d{1,18}", declared) else None

    async def read(self, start: int, stop: int | None) -> AsyncGenerator[bytes, None]:
        """The bytes from ``start`` up to ``stop``, or to the end."""
        if not self.ranged:
            if start or self._first is None:
                raise SourceUnavailable(_NO_RANGES_HERE)
            first, self._first = self._first, None
            async for chunk in self._body(first, self.size):
                yield chunk
            return
        stop = self.size if stop is None else stop
        if self._first is not None:
            first, self._first = self._first, None
            if start == 0:
                _, end, _ = _range_of(first)
                position = 0
                async for chunk in self._body(first, end + 1):
                    position += len(chunk)
                    yield chunk
                start = position
            else:
                await self._close(first)
        if stop is None or start >= stop:
            return
        async for chunk in self._part(start, stop):
            yield chunk

    async def close(self) -> None:
        """Close all connections."""
        await self._held.aclose()
        await self._pool.aclose()

    async def _part(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        conditions = {} if self._validator is None else {"If-Range": self._validator}
        answer = await self._ask({"Range": f"bytes={start}-{stop - 1}", **conditions})
        try:
            if answer.status != 206:
                raise SourceUnavailable(_CHANGED)
            first, last, size = _range_of(answer)
            if size != self.size or answer.headers.get("etag") != self._etag:
                raise SourceUnavailable(_CHANGED)
            if first != start or not start <= last < stop:
                raise SourceUnavailable(_NO_RANGES_HERE)
        except BaseException:
            await self._close(answer)
            raise
        async for chunk in self._body(answer, last + 1 - start):
            yield chunk

    async def _ask(self, headers: Mapping[str, str]) -> _Answer:
        """Send a request and follow its redirects."""
        url, credentials = self._url, _credentials(self._url)
        for _ in range(MAX_REDIRECTS + 1):
            answer = await self._send(url, {**headers, **credentials})
            if answer.status not in _REDIRECTS:
                return await self._checked(answer)
            await self._close(answer)
            target = self._target(url, answer.headers.get("location"))
            if _origin(target) != _origin(url):
                credentials = {}
            url = target
            credentials = credentials | _credentials(url)
        raise SourceUnavailable(f"the server redirects more than {MAX_REDIRECTS} times")

    def _target(self, url: httpx.URL, location: str | None) -> httpx.URL:
        """Where a redirect leads, if that is permitted."""
        if location is None:
            raise SourceUnavailable("the server redirects to nowhere")
        try:
            target = self._policy.check(url.join(location))
        except httpx.InvalidURL:
            raise UrlNotAllowed("the server redirects to something that is not a URL") from None
        if url.scheme == "https" and target.scheme != "https":
            raise UrlNotAllowed("the server redirects from https to http")
        return target

    async def _send(self, url: httpx.URL, headers: Mapping[str, str]) -> _Answer:
        sent = {
            "Host": url.netloc.decode("ascii"),
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "User-Agent": "adafocus",
            **headers,
        }
        request = httpcore.Request(
            "GET",
            httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path or b"/"),
            headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in sent.items()],
            extensions={"timeout": self._timeouts},
        )
        try:
            response = await self._pool.handle_async_request(request)
        except _FAILURES as error:
            raise _problem(error) from None
        told = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return _Answer(response.status, told, response, url)

    async def _checked(self, answer: _Answer) -> _Answer:
        """The answer, if it is of use."""
        problem = None
        if answer.status not in (200, 206):
            problem = f"the server answered with status {answer.status}"
        elif answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
            problem = "the server sent the file encoded, which was not asked for"
        if problem is not None:
            await self._close(answer)
            raise SourceUnavailable(problem)
        return answer

    async def _body(self, answer: _Answer, expected: int | None) -> AsyncGenerator[bytes, None]:
        """The body, which must have so many bytes."""
        received = 0
        try:
            async with aclosing(answer.response.aiter_stream()) as stream:  # type: ignore[type-var] # httpcore's generator is annotated as an iterator
                async for chunk in stream:
                    received += len(chunk)
                    if expected is not None and received > expected:
                        raise SourceUnavailable("the server sent more bytes than it announced")
                    yield chunk
        except _FAILURES as error:
            raise _problem(error) from None
        finally:
            await self._close(answer)
        if expected is not None and received < expected:
            raise SourceUnavailable("the server sent fewer bytes than it announced")

    async def _close(self, answer: _Answer) -> None:
        await answer.response.aclose()


_FAILURES = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpcore.ConnectionNotAvailable,
    ssl.SSLError,
    OSError,
)


def _problem(error: BaseException) -> SourceUnavailable:
    """The problem for an error of the network. Its text names neither the URL nor an address."""
    reason = error.__context__  # httpcore names no cause
    if isinstance(reason, ssl.SSLCertVerificationError):
        return SourceUnavailable(f"the certificate of the server was rejected: {reason.verify_message}")
    if isinstance(error, httpcore.ConnectTimeout | httpcore.ConnectError):
        return SourceUnavailable("the connection to the server could not be established")
    if isinstance(error, httpcore.TimeoutException):
        return SourceUnavailable("the server is too slow")
    return SourceUnavailable("the connection to the server failed")


def _range_of(answer: _Answer) -> tuple[int, int, int]:
    """First byte, last byte and size that a 206 names.

    Raises:
        SourceUnavailable: it names none, or several parts.
    """
    found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
    if found is None:
        raise SourceUnavailable(_NO_RANGES_HERE)
    start, last, size = map(int, found.groups())
    if not start <= last < size:
        raise SourceUnavailable(_NO_RANGES_HERE)
    return start, last, size


def _origin(url: httpx.URL) -> tuple[str, bytes, int | None]:
    return url.scheme, url.raw_host, url.port


def _credentials(url: httpx.URL) -> dict[str, str]:
    """The header for the user name and the password in a URL."""
    if not url.userinfo:
        return {}
    request = next(httpx.BasicAuth(url.username, url.password).auth_flow(httpx.Request("GET", url)))
    return {"Authorization": request.headers["Authorization"]}

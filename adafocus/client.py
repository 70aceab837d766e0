"""A typed client of the service's HTTP interface, synchronous and asynchronous.

    with Client("http://localhost:8000") as client:
        answer = client.classify(Path("clip.mp4"), exit="fast")
        print(answer.predictions[0].label, answer.compute.gflops)

A request that is answered with 429 or 503 is sent again after the time that the service asks for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import httpx
from pydantic import ValidationError

from adafocus.service.schemas.classify import Classification, StepEvent

DEFAULT_URL = "http://localhost:8000"
DEFAULT_TIMEOUT_SECONDS = 300.0
DEFAULT_RETRIES = 5
LONGEST_WAIT_SECONDS = 60.0
"""The longest that a client waits before it sends a request again, whatever the service asks for."""

_RETRIED = (429, 503)
_CHUNK_BYTES = 1 << 18

Video = bytes | str | os.PathLike[str]
"""A video: its bytes, or the path of a file. A file is read while it is sent, and never held in memory."""


class Options(TypedDict, total=False):
    """The parameters of one classification; those left out have the service's defaults.

    Attributes:
        model: name of a model, where the service has several.
        exit: operating point.
        top_k: number of predictions.
        max_gflops: limit on the compute, 1e9 multiply-adds.
        deadline_ms: time limit from the first byte, milliseconds.
        trace: adds one entry per step to the answer.
        frames: adds each step's frame to its event; for `stream` only.
    """

    model: str
    exit: str
    top_k: int
    max_gflops: float
    deadline_ms: float
    trace: bool
    frames: bool


class ClientError(Exception):
    """A request failed. The base class of what this module raises."""


class ServiceError(ClientError):
    """The service answered with an error.

    Attributes:
        status: HTTP status.
        code: the service's stable code, such as ``undecodable``; empty if something else answered.
        detail: what was wrong, in a sentence.
        request_id: names the request in the service's log; empty if unknown.
        retry_after_s: seconds after which the service asks to try again; None if it does not.
    """

    def __init__(self, status: int, code: str, detail: str, request_id: str, retry_after_s: float | None) -> None:
        super().__init__(f"{status} {code}: {detail}" if code else f"{status}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.retry_after_s = retry_after_s


class UnexpectedAnswerError(ClientError):
    """The server answered with something that is not a classification; check the URL."""


class ServiceUnreachableError(ClientError):
    """No connection could be made, or it broke or timed out before the answer was complete."""


class Client:
    """A client for synchronous programs. It may be used from several threads.

    Args:
        url: of the service.
        api_key: sent with every request.
        timeout_s: for each request: how long nothing may arrive, seconds.
        retries: how often a request is sent again after 429 or 503.
        transport: replaces the network, for tests.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = DEFAULT_RETRIES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._retries = retries
        self._http = httpx.Client(base_url=url, headers=_key(api_key), timeout=timeout_s, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def classify(self, video: Video, **options: Unpack[Options]) -> Classification:
        """Classify one video.

        Raises:
            ServiceError: the service refused the video or failed.
            ServiceUnreachableError: the service could not be reached.
            UnexpectedAnswerError: the server is not this service.
            OSError: the file cannot be read.
        """
        for attempt in range(self._retries + 1):
            with _network_errors():
                response = self._http.send(self._request(video, options))
            if attempt == self._retries or response.status_code not in _RETRIED:
                break
            time.sleep(_wait_s(response))
        return _classification(response)

    def stream(self, video: Video, **options: Unpack[Options]) -> Iterator[StepEvent | Classification]:
        """Classify one video and yield each step as it finishes; the last value is the whole answer.

        Closing the iterator cancels the request. Raises what `classify` raises.
        """
        for attempt in range(self._retries + 1):
            with _network_errors():
                response = self._http.send(self._request(video, options, stream=True), stream=True)
            with _network_errors(), contextlib.closing(response):
                if response.status_code == httpx.codes.OK:
                    events = _Events(response)
                    yield from (event for line in response.iter_lines() if (event := events.read(line)) is not None)
                    events.end()
                    return
                response.read()
            if attempt == self._retries or response.status_code not in _RETRIED:
                raise _service_error(response)
            time.sleep(_wait_s(response))

    def model(self) -> dict[str, Any]:
        """Return the manifest of the bundle that is served. Raises what `classify` raises."""
        with _network_errors():
            return _manifest(self._http.get("/model"))

    def _request(self, video: Video, options: Options, *, stream: bool = False) -> httpx.Request:
        content, length = (video, len(video)) if isinstance(video, bytes) else (_chunks(video), _size(video))
        return self._http.build_request(
            "POST", "/classify", params=_query(options, stream), content=content, headers=_length(length)
        )


class AsyncClient:
    """A client for asynchronous programs; its arguments and methods are those of `Client`."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_SECONDS,
        retries: int = DEFAULT_RETRIES,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._retries = retries
        self._http = httpx.AsyncClient(base_url=url, headers=_key(api_key), timeout=timeout_s, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def classify(self, video: Video, **options: Unpack[Options]) -> Classification:
        """Classify one video. Raises what `Client.classify` raises."""
        for attempt in range(self._retries + 1):
            response = await self._send(video, options)
            if attempt == self._retries or response.status_code not in _RETRIED:
                break
            await asyncio.sleep(_wait_s(response))
        return _classification(response)

    async def stream(self, video: Video, **options: Unpack[Options]) -> AsyncIterator[StepEvent | Classification]:
        """Classify one video and yield each step as it finishes, as `Client.stream` does."""
        for attempt in range(self._retries + 1):
            response = await self._send(video, options, stream=True)
            with _network_errors():
                async with contextlib.aclosing(response):
                    if response.status_code == httpx.codes.OK:
                        events = _Events(response)
                        async for line in response.aiter_lines():
                            if (event := events.read(line)) is not None:
                                yield event
                        events.end()
                        return
                    await response.aread()
            if attempt == self._retries or response.status_code not in _RETRIED:
                raise _service_error(response)
            await asyncio.sleep(_wait_s(response))

    async def model(self) -> dict[str, Any]:
        """Return the manifest of the bundle that is served. Raises what `Client.classify` raises."""
        with _network_errors():
            return _manifest(await self._http.get("/model"))

    async def _send(self, video: Video, options: Options, *, stream: bool = False) -> httpx.Response:
        content, length = (video, len(video)) if isinstance(video, bytes) else (_async_chunks(video), _size(video))
        request = self._http.build_request(
            "POST", "/classify", params=_query(options, stream), content=content, headers=_length(length)
        )
        with _network_errors():
            return await self._http.send(request, stream=stream)


class _Events:
    """Parses the lines of an event stream: `step` and `result` become values, `problem` an exception."""

    def __init__(self, response: httpx.Response) -> None:
        if response.headers.get("content-type", "").partition(";")[0] != "text/event-stream":
            raise UnexpectedAnswerError(f"{response.url} did not answer with an event stream; check the URL")
        self._name = ""
        self._finished = False

    def read(self, line: str) -> StepEvent | Classification | None:
        """Return the event that this line completes, if it does."""
        field, _, value = line.partition(": ")
        if field == "event":
            self._name = value
        if field != "data":
            return None
        if self._name == "step":
            return StepEvent.model_validate_json(value, extra="ignore")
        self._finished = True
        if self._name == "result":
            return Classification.model_validate_json(value, extra="ignore")
        raise _error_of(value, 500, None)

    def end(self) -> None:
        """Check that the stream was complete.

        Raises:
            ServiceUnreachableError: it ended before the result.
        """
        if not self._finished:
            raise ServiceUnreachableError("the event stream ended before its result")


@contextlib.contextmanager
def _network_errors() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise ServiceUnreachableError(f"{type(error).__name__}: {error}") from error


def _classification(response: httpx.Response) -> Classification:
    if response.status_code != httpx.codes.OK:
        raise _service_error(response)
    try:
        # A newer service may say more than this client knows.
        return Classification.model_validate_json(response.content, extra="ignore")
    except ValidationError as error:
        raise UnexpectedAnswerError(f"{response.url} did not answer with a classification; check the URL") from error


def _manifest(response: httpx.Response) -> dict[str, Any]:
    if response.status_code != httpx.codes.OK:
        raise _service_error(response)
    with contextlib.suppress(ValueError):
        if isinstance(manifest := response.json(), dict):
            return manifest
    raise UnexpectedAnswerError(f"{response.url} did not answer with a manifest; check the URL")


def _service_error(response: httpx.Response) -> ServiceError:
    return _error_of(response.content, response.status_code, _retry_after_s(response))


def _error_of(content: str | bytes, status: int, retry_after_s: float | None) -> ServiceError:
    try:
        problem = json.loads(content)
        code, detail = str(problem["code"]), str(problem["detail"])
    except (ValueError, TypeError, LookupError):
        return ServiceError(status, "", "the server sent no problem document", "", retry_after_s)
    request_id = str(problem.get("instance", "")).rpartition(":")[2]
    return ServiceError(int(problem.get("status", status)), code, detail, request_id, retry_after_s)


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() else None


def _wait_s(response: httpx.Response) -> float:
    asked = _retry_after_s(response)
    return min(1.0 if asked is None else asked, LONGEST_WAIT_SECONDS)


def _key(api_key: str | None) -> dict[str, str]:
    return {} if api_key is None else {"Authorization": f"Bearer {api_key}"}


def _query(options: Options, stream: bool) -> dict[str, str]:
    given: dict[str, object] = {**options, **({"stream": True} if stream else {})}
    return {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in given.items()}


def _length(size: int) -> Mapping[str, str]:
    return {"Content-Length": str(size), "Content-Type": "application/octet-stream"}


def _size(video: str | os.PathLike[str]) -> int:
    return Path(video).stat().st_size


def _chunks(video: str | os.PathLike[str]) -> Iterator[bytes]:
    with Path(video).open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


async def _async_chunks(video: str | os.PathLike[str]) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(Path(video).open, "rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk

"""The event stream of ``/classify``: server-sent events, one ``step`` for each step, and a ``result`` at the end.

For a long video there is one ``segment`` for each window instead, and one ``event`` for each event.

The stream starts with the first of them. A problem before that is an ordinary error response with its own status; a
problem after it is the event ``problem``, and the last one.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from adafocus.service.errors import Problem
from adafocus.service.http.handler import Exchange
from adafocus.service.http.problems import problem_json, problem_response
from adafocus.service.progress import Observer, StepReport
from adafocus.service.schemas.classify import Classification, StepEvent, StepImage
from adafocus.service.segments import SegmentObserver

MEDIA_TYPE = "text/event-stream"

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Neither a cache nor a proxy may hold events back."""

_JPEG_QUANTISER = "3"
"""From 1 (best) to 31: 10 kB for a detailed frame of 224 pixels."""

ClassifyWith = Callable[[Observer], Awaitable[Classification]]
ClassifyWindowsWith = Callable[[SegmentObserver], Awaitable[Classification]]


class EventStream(Response):
    """The event stream of one request: sends the steps, and renders what comes after them."""

    def __init__(self) -> None:
        super().__init__(headers=_HEADERS, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._started = False

    async def send_steps(self, exchange: Exchange, classify: ClassifyWith, *, frames: bool) -> Classification:
        """Classify, and send each step as it finishes. A slow client does not slow the steps down.

        Args:
            exchange: the request.
            classify: classifies its video and calls the observer that it is given for each step.
            frames: whether each step carries its frame.
        """
        reports: asyncio.Queue[StepReport | None] = asyncio.Queue()  # holds no more than the model has steps
        work = asyncio.ensure_future(classify(reports.put_nowait))
        work.add_done_callback(lambda _: reports.put_nowait(None))
        try:
            while (report := await reports.get()) is not None:
                event = await _step_event(report, frames=frames)
                if not self._started:
                    await self._start(exchange)
                await exchange.send(_body(_event("step", event.to_json()), more=True))
            return await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def send_segments(self, exchange: Exchange, classify: ClassifyWindowsWith) -> Classification:
        """Classify a long video, and send its segments and events as they come.

        Args:
            exchange: the request.
            classify: classifies its video and calls the observer that it is given.
        """
        told: asyncio.Queue[bytes | None] = asyncio.Queue()  # holds no more than there are windows
        observer = SegmentObserver(
            on_segment=lambda segment: told.put_nowait(_event("segment", segment.to_json())),
            on_event=lambda event: told.put_nowait(_event("event", event.model_dump_json())),
        )
        work = asyncio.ensure_future(classify(observer))
        work.add_done_callback(lambda _: told.put_nowait(None))
        try:
            while (data := await told.get()) is not None:
                if not self._started:
                    await self._start(exchange)
                await exchange.send(_body(data, more=True))
            return await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    def result(self, result: Classification) -> Response:
        """The last event."""
        return self._last("result", result.to_json())

    def problem(self, problem: Problem, request_id: str) -> Response:
        """The last event, or an error response if the stream has not started."""
        if not self._started:
            return problem_response(problem, request_id)
        return self._last("problem", problem_json(problem, request_id))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the last event."""
        if self._started:
            await send(_body(bytes(self.body), more=False))
        else:
            await super().__call__(scope, receive, send)

    def _last(self, name: str, data: str) -> EventStream:
        self.body = _event(name, data)
        return self

    async def _start(self, exchange: Exchange) -> None:
        self._started = True
        if not exchange.body.complete:
            self.headers["connection"] = "close"
        await exchange.send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})


def _event(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def _body(content: bytes, *, more: bool) -> Message:
    return {"type": "http.response.body", "body": content, "more_body": more}


async def _step_event(report: StepReport, *, frames: bool) -> StepEvent:
    image = None
    if frames:
        data = "data:image/jpeg;base64," + base64.b64encode(await asyncio.to_thread(jpeg, report.pixels)).decode()
        image = StepImage(data=data, view=report.view, width=report.video.width, height=report.video.height)
    return StepEvent(
        **dict(report.entry),
        place=report.place,
        threshold=report.threshold,
        gflops=report.gflops,
        elapsed_ms=report.elapsed_ms,
        image=image,
    )


def jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a picture ``uint8 [H, W, 3]``, RGB, as a JPEG file."""
    # One thread: for a picture this small, starting more costs many times what the conversion does.
    frame = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(pixels, format="rgb24"), format="yuvj420p", threads=1
    )
    encoder = av.CodecContext.create("mjpeg", "w")
    if not isinstance(encoder, av.VideoCodecContext):
        raise TypeError("mjpeg is not a video codec in this build of FFmpeg")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base, encoder.thread_count, encoder.thread_type = Fraction(1), 1, "NONE"
    encoder.options = {"qmin": _JPEG_QUANTISER, "qmax": _JPEG_QUANTISER}
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))

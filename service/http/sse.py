"""An answer that is told while it is being found: server-sent events, one per step, and the result at the end.

The stream begins with the first thing there is to tell. Until then a problem is an ordinary error answer, with its
own status; after that it is the event `problem`, and the last one.
"""

from __future__ import annotations

import asyncio
import base64
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.video.reformatter import VideoReformatter
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.classify import Body
from service.http.body import Answer, ClientLeft
from service.http.handler import Visit
from service.http.problems import problem_json, problem_response
from service.progress import StepReport
from service.schemas.classify import Classification, Parameters, StepEvent, StepImage

MEDIA_TYPE = "text/event-stream"

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Neither a cache nor a proxy in between may hold events back."""

_JPEG_QUANTISER = "3"
"""Of 1 (best) to 31: 10 kB for a detailed frame of 224 pixels."""


class EventStream(Response):
    """Classifies an upload and tells of it as it goes; a reader that goes away cancels it.

    Args:
        visit: ended by this response.
        body: of the request.
        ask: what is asked; with ``frames`` each step shows its frame.
    """

    def __init__(self, visit: Visit, body: Body, ask: Parameters) -> None:
        super().__init__(headers=_HEADERS, media_type=MEDIA_TYPE)
        del self.headers["content-length"]
        self._visit = visit
        self._body = body
        self._ask = ask
        self._begun = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Do all of it."""
        visit = self._visit
        try:
            answer = await visit.upload.unless_client_leaves(self._told(send))
            visit.answered(answer)
            await self._tell(send, "result", answer.to_json(), last=True)
        except ClientLeft:
            visit.end()
        except Exception as error:  # noqa: BLE001 - the last seam before the client; what is no Problem is logged
            problem = visit.failed(error)
            if self._begun:
                await self._tell(send, "problem", problem_json(problem, visit.id), last=True)
            else:
                await Answer(problem_response(problem, visit.id), visit.upload)(scope, receive, send)
        finally:
            visit.end()

    async def _told(self, send: Send) -> Classification:
        """Classify, and tell of each step; a slow reader does not slow the steps down."""
        reports: asyncio.Queue[StepReport | None] = asyncio.Queue()  # holds no more than the model has steps
        work = asyncio.create_task(self._visit.classified(self._body, self._ask, reports.put_nowait))
        work.add_done_callback(lambda _: reports.put_nowait(None))
        try:
            while (report := await reports.get()) is not None:
                await self._tell(send, "step", await self._step(report))
            return await work
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)

    async def _step(self, report: StepReport) -> str:
        image = None
        if self._ask.frames:
            picture = await asyncio.to_thread(jpeg, report.pixels)
            data = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
            size = report.video
            image = StepImage(data=data, view=report.view, width=size.width, height=size.height)
        return StepEvent(
            **dict(report.entry),
            place=report.place,
            threshold=report.threshold,
            gflops=report.gflops,
            elapsed_ms=report.elapsed_ms,
            image=image,
        ).to_json()

    async def _tell(self, send: Send, name: str, data: str, *, last: bool = False) -> None:
        if not self._begun:
            self._begun = True
            if not self._visit.upload.complete:
                self.headers["connection"] = "close"
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        event = f"event: {name}\ndata: {data}\n\n".encode()
        await send({"type": "http.response.body", "body": event, "more_body": True})
        if last:
            await self._visit.upload.linger()
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def jpeg(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A picture ``uint8 [H, W, 3]``, RGB, as a JPEG file."""
    # One thread each: for a picture this small, starting more costs many times what drawing it does.
    frame = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(pixels, format="rgb24"), format="yuvj420p", threads=1
    )
    encoder = av.CodecContext.create("mjpeg", "w")
    if not isinstance(encoder, av.VideoCodecContext):
        raise TypeError("mjpeg is a codec of pictures")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base, encoder.thread_count, encoder.thread_type = Fraction(1), 1, "NONE"
    encoder.options = {"qmin": _JPEG_QUANTISER, "qmax": _JPEG_QUANTISER}
    return b"".join(bytes(packet) for packet in (*encoder.encode(frame), *encoder.encode(None)))

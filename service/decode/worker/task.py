"""One job in a worker: open the video, decode the wanted frames and pass them on one by one."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from typing import TypeVar

from av.error import err_check

from adafocus.service.decode.ipc import FAULT, OUT_OF_MEMORY
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.worker.control import ClosedError, Control, Job
from adafocus.service.decode.worker.spool_reader import SpoolReader
from adafocus.video.decoder import FrameStream
from adafocus.video.errors import VideoError
from adafocus.video.probe import OpenVideo, open_video
from adafocus.video.sampler import wanted_frames
from adafocus.video.transform import Geometry

Result = TypeVar("Result")

_MAX_DETAIL = 2000


@dataclass(frozen=True)
class Done:
    """The result of a job: its cost, and the error, if any."""

    frames_decoded: int
    seconds: float
    code: str | None = None
    detail: str = ""

    @property
    def out_of_memory(self) -> bool:
        """Whether the job reached the memory limit."""
        return self.code == OUT_OF_MEMORY

    def message(self) -> dict[str, object]:
        """The message to the service."""
        error = None if self.code is None else {"code": self.code, "detail": self.detail[:_MAX_DETAIL]}
        return {"type": "done", "frames_decoded": self.frames_decoded, "seconds": self.seconds, "error": error}


class Task:
    """One job. Its seconds are wall time spent decoding and resizing, without waiting for bytes or for a slot."""

    def __init__(self, job: Job, control: Control, frames: SharedFrames) -> None:
        self._job = job
        self._control = control
        self._frames = frames
        self._reader = SpoolReader(job.fd, control)
        self._stream: FrameStream | None = None
        self._seconds = 0.0

    def run(self) -> Done:
        """Run the job and close the spool. No file makes this raise an error."""
        try:
            with ExitStack() as held:
                held.callback(os.close, self._job.fd)
                held.callback(_forget_stashed_error)
                video = self._timed(lambda: held.enter_context(open_video(self._reader, self._job.limits)))
                self._deliver(video)
        except ClosedError:
            return self._done()
        except VideoError as error:
            if _is_out_of_memory(error):
                return self._done(OUT_OF_MEMORY)
            return self._done(error.code, str(error))
        except MemoryError:
            return self._done(OUT_OF_MEMORY)
        except Exception:  # noqa: BLE001 - a bug of ours fails one request and not the worker; the service logs it
            return self._done(FAULT, traceback.format_exc()[-_MAX_DETAIL:])
        return self._done()

    def _deliver(self, video: OpenVideo) -> None:
        job = self._job
        stream = self._stream = self._timed(lambda: _stream(video, job, self._control.check))
        self._control.send({"type": "opened", "info": asdict(video.info), **self._cost()})
        position, last = -1, job.frames + (job.focus_frames or 0) - 1
        while position < last:
            slot = self._control.wait_for_slot()
            frame = self._timed(stream.next)
            if frame is None:
                return
            position = frame.position
            self._frames.put(slot, frame.pixels)
            place = {"slot": slot, "position": frame.position, "index": frame.index, "time_s": frame.time_s}
            self._control.send({"type": "frame", **place, **self._cost()})

    def _timed(self, work: Callable[[], Result]) -> Result:
        began, waited = time.perf_counter(), self._reader.waited_seconds
        try:
            return work()
        finally:
            self._seconds += time.perf_counter() - began - (self._reader.waited_seconds - waited)

    def _cost(self) -> dict[str, object]:
        decoded = 0 if self._stream is None else self._stream.frames_decoded
        return {"frames_decoded": decoded, "seconds": self._seconds}

    def _done(self, code: str | None = None, detail: str = "") -> Done:
        decoded = 0 if self._stream is None else self._stream.frames_decoded
        return Done(decoded, self._seconds, code, detail)


def _stream(video: OpenVideo, job: Job, between: Callable[[], None]) -> FrameStream:
    wanted = wanted_frames(
        video.index.frames,
        frames=job.frames,
        order=job.order,
        first_frame=job.first_frame,
        focus_frames=job.focus_frames,
    )
    return FrameStream(video, wanted, Geometry(job.resize, job.crop), between=between)


def _forget_stashed_error() -> None:
    """Clear the error of a reader that PyAV keeps until its next call of FFmpeg, even one for another video."""
    with suppress(Exception):
        err_check(0)


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error was caused by a lack of memory."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False

"""One job in a worker: open the video, decode the wanted frames and pass them on one by one."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from adafocus.service.decode.ipc import FAULT, MAX_TIME_SECONDS, OUT_OF_MEMORY
from adafocus.service.decode.worker.budget import Budget, OverBudget
from adafocus.service.decode.worker.control import ClosedError, Control, Job
from adafocus.service.decode.worker.frame_writer import FrameWriter
from adafocus.service.decode.worker.kept_video import KeptVideo
from adafocus.video.decoder import FrameStream
from adafocus.video.errors import VideoError
from adafocus.video.probe import OpenVideo

Result = TypeVar("Result")

_MAX_DETAIL = 2000


@dataclass(frozen=True)
class Done:
    """The result of a job: its cost, the error, if any, and whether it ended because it had used its time."""

    frames_decoded: int
    seconds: float
    cpu_seconds: float
    capped: bool = False
    code: str | None = None
    detail: str = ""

    @property
    def out_of_memory(self) -> bool:
        """True if the job reached the memory limit."""
        return self.code == OUT_OF_MEMORY

    def message(self) -> dict[str, object]:
        """The message to the service."""
        error = None if self.code is None else {"code": self.code, "detail": self.detail[:_MAX_DETAIL]}
        return {
            "type": "done",
            "frames_decoded": self.frames_decoded,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "capped": self.capped,
            "error": error,
        }


class CappedError(Exception):
    """The job has used its processor time. Decoding does not catch this error, so it always ends the job."""


class Task:
    """One job.

    Its seconds are wall time spent opening, decoding and resizing, without waiting for bytes or for a slot; its
    processor seconds are what the worker, which has one thread, used meanwhile.
    """

    def __init__(self, job: Job, control: Control, frames: FrameWriter, kept: KeptVideo | None = None) -> None:
        self._job = job
        self._control = control
        self._frames = frames
        self._kept = kept or KeptVideo()
        self._stream: FrameStream | None = None
        self._video: OpenVideo | None = None
        self._budget = Budget(job.limits.max_decode_seconds, job.limits.max_decoded_pixels)
        self._seconds = 0.0
        self._cpu_seconds = 0.0
        self._cpu_began = 0.0
        self._delivered = False

    def run(self) -> Done:
        """Run the job. No file makes this raise an error. Only the video of a window stays open."""
        done = self._run()
        if self._job.window is None or done.code is not None:
            self._kept.close()
        return done

    def _run(self) -> Done:
        try:
            self._kept.prepare(self._job, self._control)
            self._kept.between = self._between_packets
            video = self._timed(lambda: self._kept.open(self._job))
            self._deliver(video)
        except ClosedError:
            return self._done()
        except CappedError:
            return self._done(capped=True)
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
        self._video = video
        stream, window = self._timed(lambda: self._kept.frames(job))
        self._stream = stream
        about: dict[str, object] = {} if window is None else {"window": window}
        try:
            first = self._next_frame(stream)
        except BaseException:
            if video.looked_at:
                self._control.send({"type": "opened", "info": vars(video.info), **about, **self._cost()})
            raise
        cost, sent = self._cost(), None
        if first is not None:
            sent = {**first, **cost}
        self._control.send({"type": "opened", "info": vars(video.info), **about, **cost, "frame": sent})
        last = job.frames + (job.focus_frames or 0) - 1
        frame = first
        while frame is not None and frame["position"] != last:
            frame = self._next_frame(stream)
            if frame is not None:
                self._control.send_frame({**frame, **self._cost()})

    def _next_frame(self, stream: FrameStream) -> dict[str, object] | None:
        """Decode a frame into a slot; the message that says so, or None if there is none left."""
        slot = self._control.wait_for_slot()
        self._check_time()
        try:
            frame = self._timed(stream.next)
            self._budget.check_time()
        except OverBudget:
            if not self._delivered:  # there is nothing to answer from
                raise
            return None
        if frame is None:
            return None
        self._delivered = True
        self._frames.put(slot, frame.pixels)
        time_s = _possible_time(frame.time_s)
        place = {"slot": slot, "position": frame.position, "index": frame.index, "time_s": time_s}
        return {"type": "frame", **place}

    def _between_packets(self) -> None:
        if self._control.check():
            self._budget.check_time()
        if self._stream is not None and self._video is not None:
            self._budget.check_pictures(self._stream.frames_decoded, self._video.pixels)
        if self._job.max_cpu_seconds is not None:
            self._check_time(time.process_time() - self._cpu_began)

    def _check_time(self, running: float = 0.0) -> None:
        """Stop if the job has used its processor time; ``running`` is what the present work has used so far."""
        limit = self._job.max_cpu_seconds
        if limit is not None and self._delivered and self._cpu_seconds + running >= limit:
            raise CappedError

    def _timed(self, work: Callable[[], Result]) -> Result:
        began, waited = time.perf_counter(), self._kept.waited_seconds
        self._cpu_began = time.process_time()
        try:
            return work()
        finally:
            self._cpu_seconds += time.process_time() - self._cpu_began
            self._seconds += time.perf_counter() - began - (self._kept.waited_seconds - waited)

    def _cost(self) -> dict[str, object]:
        decoded = 0 if self._stream is None else self._stream.frames_decoded
        return {"frames_decoded": decoded, "seconds": self._seconds, "cpu_seconds": self._cpu_seconds}

    def _done(self, code: str | None = None, detail: str = "", *, capped: bool = False) -> Done:
        decoded = 0 if self._stream is None else self._stream.frames_decoded
        return Done(decoded, self._seconds, self._cpu_seconds, capped, code, detail)


def _possible_time(seconds: float | None) -> float | None:
    """A time that can be sent; None if the file's clock tells nonsense."""
    return seconds if seconds is not None and abs(seconds) <= MAX_TIME_SECONDS else None


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Return True if an error was caused by a lack of memory."""
    while error is not None:
        if isinstance(error, MemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False

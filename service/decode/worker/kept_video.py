"""A video that a worker has open: for one job, or for the windows of a long video, one job after the other."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack, suppress

import numpy as np
from av.error import err_check
from numpy.typing import NDArray

from adafocus.service.decode.worker.control import Control, Job, JobWindow
from adafocus.service.decode.worker.range_reader import RangeReader
from adafocus.service.decode.worker.spool_reader import SpoolReader
from adafocus.video.decoder import FrameStream
from adafocus.video.errors import Undecodable
from adafocus.video.probe import OpenVideo, open_video
from adafocus.video.sampler import wanted_frames
from adafocus.video.transform import Geometry, Resizer
from adafocus.video.windows import Windows


class KeptVideo:
    """The video that is open now, if any. Everything that it holds is closed with it, except for the scaler."""

    def __init__(self) -> None:
        self._held = ExitStack()
        self._video: OpenVideo | None = None
        self._reader: SpoolReader | RangeReader | None = None
        self._stream: FrameStream | None = None
        self._windows: Windows | None = None
        self._keys: NDArray[np.int64] | None = None  # indices of key frames, ascending
        self._resizer: Resizer | None = None
        self.between: Callable[[], None] = lambda: None
        """Called after every packet; may raise an error to end the job."""

    @property
    def waited_seconds(self) -> float:
        """Time spent waiting for the upload since the video was opened, seconds."""
        return 0.0 if self._reader is None else self._reader.waited_seconds

    def prepare(self, job: Job, control: Control) -> None:
        """Take the job's descriptor, and close a video that is not the job's. Does not read."""
        again = job.window is not None and job.window.again and self._reader is not None
        if again and self._reader is not None and not self._reader.interrupted:
            os.close(job.fd)
            return
        self.close()
        self._held.callback(os.close, job.fd)
        self._held.callback(_forget_stashed_error)
        self._reader = RangeReader(job.fd, control) if job.sparse else SpoolReader(job.fd, control)

    def open(self, job: Job) -> OpenVideo:
        """Open the job's video, unless it is open already.

        Raises:
            VideoError: the video is refused.
            ClosedError: the request was closed.
        """
        if self._video is None:
            if self._reader is None:
                raise RuntimeError("a job must be prepared before its video is opened")
            # Windows are cut by the video's times. A video that still arrives is refused by its first frame, if at all.
            look = job.window is not None or not (job.complete or job.sparse)
            self._video = self._held.enter_context(open_video(self._reader, job.limits, ranged=job.sparse, look=look))
        return self._video

    def frames(self, job: Job) -> tuple[FrameStream, dict[str, object] | None]:
        """The frames that a job wants, and what the service is told of their window.

        Raises:
            VideoError: the video cannot be cut into windows.
        """
        video = self.open(job)
        if job.window is None:
            wanted = self._wanted(job, video, 0, video.index.frames)
            return FrameStream(video, wanted, self._resizer_of(job), between=self._between), None
        windows = self._windows = self._windows or _windows_of(video, job.window)
        number, count = job.window.number, windows.count
        window = windows.window(number)
        following = windows.window(number + 1) if number + 1 < count else None
        wanted = self._wanted(job, video, window.first, window.frames)
        later = () if following is None else self._wanted(job, video, following.first, following.frames)
        if self._stream is None:
            self._stream = FrameStream(video, wanted, self._resizer_of(job), between=self._between, later=later)
        else:
            self._stream.go_on(wanted, later)
        return self._stream, {"start_s": window.start_s, "end_s": window.end_s, "count": count}

    def _resizer_of(self, job: Job) -> Resizer:
        """The resizer for a job: that of the last one if its squares are the same, because preparing one takes time."""
        geometry = Geometry(job.resize, job.crop, job.fit)
        if self._resizer is None or self._resizer.geometry != geometry:
            self._resizer = Resizer(job.resize, job.crop, job.fit)
        return self._resizer

    def _between(self) -> None:
        self.between()

    def _wanted(self, job: Job, video: OpenVideo, first: int, frames: int) -> tuple[int, ...]:
        """Frame index in the video per visited position, of the frames from ``first`` on."""
        key_frames: tuple[int, ...] = ()
        if job.snap == "keyframe":
            if self._keys is None:
                self._keys = np.asarray(video.index.key_frames, dtype=np.int64)
            begin, end = np.searchsorted(self._keys, (first, first + frames))
            key_frames = tuple((self._keys[begin:end] - first).tolist())
        sampled = wanted_frames(
            frames,
            frames=job.frames,
            order=job.order,
            first_frame=job.first_frame,
            focus_frames=job.focus_frames,
            key_frames=key_frames,
        )
        return tuple(first + index for index in sampled)

    def close(self) -> None:
        """Close the video. May be called again."""
        self._video = self._reader = self._stream = self._windows = self._keys = None
        self._held.close()


def _windows_of(video: OpenVideo, asked: JobWindow) -> Windows:
    times, seconds = video.index.times_s, video.info.duration_s
    if seconds is None:
        raise Undecodable("nothing in the video tells its times, so it cannot be cut into windows")
    if times is None:
        times = np.arange(video.index.frames, dtype=np.float64) * (seconds / video.index.frames)
    return Windows(times, seconds, asked.window_s, asked.stride_s)


def _forget_stashed_error() -> None:
    """Clear the error of a reader that PyAV keeps until its next call of FFmpeg, even one for another video."""
    with suppress(Exception):
        err_check(0)

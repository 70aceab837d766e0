"""Compares the processor time of a decode worker per video with that of plain PyAV for the same frames.

Plain PyAV opens the file, seeks to the key frame before the wanted frame, decodes up to it and resizes it; if all
frames are wanted, it reads the file once from its start to the last of them. It is given the times of the frames. It
uses the same resizer settings and one thread, and checks nothing. The worker's path is the code that a worker process
runs for a job: `service.decode.worker.task`, with the spool, the shared memory and the messages to the service, but
without the sandbox, which adds no cost to it.

With the shipped model `exit=balanced` mostly needs one frame, and `exit=full` needs all frames. Both ways take turns on
each clip in one process. Medians of processor time (user and system) are reported, because a busy machine disturbs them
less than wall time. The script first checks that both give the same pixels.

Run ``python -m benchmarks.decoder_cost [--rounds 30]``.
"""

from __future__ import annotations

import argparse
import os
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.codec.context import ThreadType
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from adafocus.bundle.manifest import FrameGeometry, Manifest
from adafocus.bundle.store import load_bundle
from adafocus.service.decode.ipc import MAX_MESSAGE_BYTES, encode, socket_pair
from adafocus.service.decode.job import DecodeJob
from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.worker.control import ClosedError, Control, Job
from adafocus.service.decode.worker.frame_writer import FrameWriters
from adafocus.service.decode.worker.kept_video import KeptVideo
from adafocus.service.decode.worker.task import Task
from adafocus.video.limits import MediaLimits
from adafocus.video.probe import open_video
from adafocus.video.sampler import wanted_frames
from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, SAMPLES, one_key_frame

FILTER = (
    Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.FULL_CHR_H_INP
)


@dataclass(frozen=True)
class Clip:
    """A clip, its copy in anonymous memory (like an upload), and the times of its wanted frames in visiting order."""

    path: Path
    fd: int
    size: int
    times: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, manifest: Manifest) -> Clip:
        """Read a file and find out where its frames are."""
        content = path.read_bytes()
        fd = os.memfd_create(path.stem)
        os.write(fd, content)
        sampling = manifest.sampling
        with path.open("rb") as stream, open_video(stream) as video:
            frames = wanted_frames(
                video.index.frames, frames=sampling.frames, order=sampling.order, first_frame=sampling.first_frame
            )
            index = video.index
            return cls(path, fd, len(content), tuple(int(index.pts[index.order[frame]]) for frame in frames))


class OneVideo(Control):
    """A worker's control socket whose other side takes a number of frames and then closes the job."""

    wanted = 0

    def wait_for_slot(self) -> int:
        """Give the next slot."""
        self.check()
        if self.wanted == 0:
            raise ClosedError
        self.wanted -= 1
        return self.wanted


def plain(clip: Clip, geometry: FrameGeometry, frames: int) -> dict[int, NDArray[np.uint8]]:
    """The first frames in visiting order, by their times, with PyAV alone."""
    missing = set(clip.times[:frames])
    found: dict[int, NDArray[np.uint8]] = {}
    with av.open(str(clip.path)) as container:
        film = container.streams.video[0]
        film.codec_context.thread_type = ThreadType.NONE
        film.codec_context.thread_count = 1
        if frames == 1:
            container.seek(clip.times[0], stream=film)
        resizer = VideoReformatter()
        for frame in container.decode(film):
            if frame.pts in missing:
                found[frame.pts] = square(resizer, frame, geometry)
                missing.remove(frame.pts)
                if not missing:
                    break
    return found


def square(resizer: VideoReformatter, frame: av.VideoFrame, geometry: FrameGeometry) -> NDArray[np.uint8]:
    """The square that a model of this geometry sees of a frame that is wider than high."""
    side = geometry.crop
    whole = geometry.fit == "letterbox"
    width, height = (
        (side, round(frame.height * side / frame.width))
        if whole
        else (int(geometry.resize * frame.width / frame.height), geometry.resize)
    )
    scaled = resizer.reformat(
        frame, width=width, height=height, format="rgb24", interpolation=FILTER, threads=1
    ).to_ndarray()
    if whole:
        bars = np.zeros((side, side, 3), dtype=np.uint8)
        top = (side - height) // 2
        bars[top : top + height] = scaled
        return bars
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.ascontiguousarray(scaled[top : top + side, left : left + side])


class Worker:
    """The worker's path in this process."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.frames = SharedFrames.create(manifest.sampling.frames, manifest.geometry.crop)
        self._service, side = socket_pair()
        self._control = OneVideo(side, slots=self.frames.slots)
        self._kept = KeptVideo()
        self._writers = FrameWriters(self.frames.slots, self.frames.crop)

    def decode(self, clip: Clip, frames: int) -> None:
        """Do one job, up to so many frames; frame ``i`` ends in slot ``frames - 1 - i``."""
        job = DecodeJob(self._manifest.sampling, self._manifest.geometry, MediaLimits(), slots=1)
        message = encode(job.message(clip.size, True, clip.size, memory=self.frames.number))
        socket.send_fds(self._service, [message], [clip.fd, self.frames.fd])
        taken = self._control.next_job()
        if not isinstance(taken, Job):
            raise TypeError("the worker received no job")
        self._control.wanted = frames
        writer = self._writers.take(taken.memory, taken.frames_fd)
        done = Task(taken, self._control, writer, self._kept).run()
        self._writers.rest(writer)
        if done.code is not None:
            raise RuntimeError(f"{clip.path.stem}: {done.code} {done.detail}")
        self._control.send(done.message())

    def forget(self) -> None:
        """Take the messages off the socket, as the service would."""
        while self._service.recv(MAX_MESSAGE_BYTES).find(b'"done"') < 0:
            pass


def cpu_ms(work: Callable[[], object]) -> float:
    """Processor time of this process, milliseconds."""
    begun = time.process_time()
    work()
    return (time.process_time() - begun) * 1e3


def check(clips: list[Clip], worker: Worker, manifest: Manifest, frames: int) -> None:
    """Check that both ways give the same pixels.

    Raises:
        RuntimeError: they do not.
    """
    for clip in clips:
        expected = plain(clip, manifest.geometry, frames)
        worker.decode(clip, frames)
        worker.forget()
        for position, pts in enumerate(clip.times[:frames]):
            got = worker.frames.take(frames - 1 - position, manifest.geometry.crop)
            if not np.array_equal(got, expected[pts]):
                raise RuntimeError(f"{clip.path.stem}: frame {position} differs from plain PyAV's")


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    options = parser.parse_args()
    manifest = load_bundle(options.bundle).manifest
    # Plain PyAV is given the frames of the published sampling, so the worker gets the same.
    sampling = manifest.sampling.model_copy(update={"snap": "none"})
    manifest = manifest.model_copy(update={"sampling": sampling})
    worker = Worker(manifest)
    samples = [Clip.of(path, manifest) for path in SAMPLES]
    folder = tempfile.TemporaryDirectory()  # removed when the program ends
    camera = Path(folder.name) / "one_key_frame.mp4"
    camera.write_bytes(one_key_frame())
    rows = []
    for what, clips in (("samples", samples), ("camera's file", [Clip.of(camera, manifest)])):
        for point, frames in (("balanced", 1), ("full", manifest.sampling.frames)):
            check(clips, worker, manifest, frames)
            alone, served = [], []
            for clip in clips * options.rounds:
                alone.append(cpu_ms(partial(plain, clip, manifest.geometry, frames)))
                served.append(cpu_ms(partial(worker.decode, clip, frames)))
                worker.forget()
            rows.append(
                {
                    "clips": what,
                    "exit": point,
                    "frames": frames,
                    "plain_ms": round(statistics.median(alone), 2),
                    "worker_ms": round(statistics.median(served), 2),
                    "ratio": round(statistics.median(s / a for s, a in zip(served, alone, strict=True)), 2),
                    "rounds": options.rounds,
                }
            )
            print(rows[-1], flush=True)
    print(write_results("decoder-cost", f"{manifest.name}-{manifest.version}".replace("_", "-"), rows))


if __name__ == "__main__":
    main()

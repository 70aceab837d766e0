"""An unprivileged process that decodes one untrusted video at a time.

The service starts the template of the workers as ``python -m adafocus.service.decode.worker.main``, with the number of
the descriptor that it inherits. It imports what decoding needs and forks workers (see `template`). Each enters its
sandbox and serves jobs until the control socket is closed (see `ipc`).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import io
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import import_module

from adafocus.service.decode.ipc import MEMORY_REFUSED
from adafocus.service.decode.worker import sandbox, template
from adafocus.service.decode.worker.control import Control
from adafocus.service.decode.worker.frame_writer import KEPT_MEMORIES, FrameWriters, segment_bytes
from adafocus.service.decode.worker.imports import import_all_of_av
from adafocus.service.decode.worker.kept_video import KeptVideo
from adafocus.service.decode.worker.task import Task
from adafocus.video.decoder import FrameStream
from adafocus.video.limits import MediaLimits
from adafocus.video.probe import open_video
from adafocus.video.transform import Geometry

_KEPT_FREE_BYTES = 16 << 20
_REHEARSAL = bytes.fromhex(
    "47494638396102000200800000000000ffffff"  # a GIF of two pixels squared, black and white
    "21f90400040000002c000000000200020000020284510021f90400040000002c0000000002000200000202848f003b"  # and two frames
)


def main(arguments: Sequence[str]) -> int:
    """Fork workers, and in each of them serve jobs, until the service closes the socket.

    Args:
        arguments: as `arguments` creates them.
    """
    parser = argparse.ArgumentParser(prog="adafocus decode worker")
    for name in ("requests", "slots", "crop", "memory-bytes", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args(arguments)
    # A terminal's signals and a supervisor's SIGTERM may reach all processes. The service may still be draining then,
    # so it alone decides when this process ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    import_everything()
    gc.collect()
    gc.freeze()  # imported objects are permanent: collections skip them, and workers share their memory
    sandbox.fall_silent()
    connection = template.serve(socket.socket(fileno=given.requests))
    if connection is None:
        return 0
    control = Control(connection, slots=given.slots)
    memories = (KEPT_MEMORIES + 1) * segment_bytes(given.slots, given.crop)
    report = sandbox.enter(given.memory_bytes + memories, parent=given.parent)
    control.send({"type": "ready", "sandbox": asdict(report)})
    heap, kept, writers = _Heap(), KeptVideo(), FrameWriters(given.slots, given.crop)
    while (job := control.next_job(kept.close)) is not None:
        frames = writers.take(job.memory, job.frames_fd)
        done = Task(job, control, frames, kept).run()
        writers.rest(frames)
        if done.out_of_memory and heap.is_small():  # a size that was only claimed in the file, and refused
            done = replace(done, code=MEMORY_REFUSED)
        if not control.silent:
            control.send(done.message())
        heap.give_back()
        if done.out_of_memory:  # the heap is full or fragmented: the next video needs a fresh process
            break
    return 0


def arguments(*, requests: int, slots: int, crop: int, memory_bytes: int, parent: int) -> list[str]:
    """The command line of a template."""
    numbers = {
        "requests": requests,
        "slots": slots,
        "crop": crop,
        "memory-bytes": memory_bytes,
        "parent": parent,
    }
    return ["-m", __name__, *(f"--{name}={number}" for name, number in numbers.items())]


def import_everything() -> None:
    """Import all of PyAV and decode a small video of our own, because the sandbox forbids later imports.

    PyAV and numpy import some of their parts only on first use.
    """
    import_all_of_av()
    import_module("numpy.ma")  # numpy.unique looks there
    with open_video(io.BytesIO(_REHEARSAL), MediaLimits()) as video:
        stream = FrameStream(video, range(video.index.frames), Geometry(resize=8, crop=8))
        while stream.next() is not None:
            pass


class _Mallinfo2(ctypes.Structure):
    """The GNU libc's statistics of its heap, in bytes; ``fordblks`` is the free part."""

    _fields_ = (
        *((name, ctypes.c_size_t) for name in ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks")),
        *((name, ctypes.c_size_t) for name in ("uordblks", "fordblks", "keepcost")),
    )


class _Heap:
    """The heap of this process, as the GNU libc tells of it; with another libc nothing is known and nothing done."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self._trim, self._info = getattr(libc, "malloc_trim", None), getattr(libc, "mallinfo2", None)
        if self._info is not None:
            self._info.restype = _Mallinfo2
        self._at_start = self._bytes()

    def give_back(self) -> None:
        """Give freed memory back to the system.

        Without it, every worker would keep the memory of its largest video. A small amount is kept, because the next
        small video would otherwise have to request it again page by page.
        """
        if self._trim is not None and self._info is not None and self._info().fordblks > _KEPT_FREE_BYTES:
            self._trim(0)

    def is_small(self) -> bool:
        """Whether it has not grown much since the start, after what is free has been given back."""
        if self._trim is None or self._info is None:
            return False
        self._trim(0)
        return self._bytes() - self._at_start < _KEPT_FREE_BYTES

    def _bytes(self) -> int:
        """Taken from the system, in the heap and in blocks of their own."""
        if self._info is None:
            return 0
        info = self._info()
        return int(info.arena + info.hblkhd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

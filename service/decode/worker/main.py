"""An unprivileged process that decodes one untrusted video at a time.

The service starts it as ``python -m adafocus.service.decode.worker.main`` with the numbers of the descriptors that it
inherits. It imports what decoding needs, enters its sandbox, and serves jobs until the control socket is closed (see
`ipc`).
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import io
import os
import pkgutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict

import av

from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.worker import sandbox
from adafocus.service.decode.worker.control import Control
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
    """Serve jobs until the service closes the control socket.

    Args:
        arguments: as `arguments` creates them.
    """
    parser = argparse.ArgumentParser(prog="adafocus decode worker")
    for name in ("control", "frames", "slots", "crop", "memory-bytes", "parent"):
        parser.add_argument(f"--{name}", type=int, required=True)
    given = parser.parse_args(arguments)
    # A terminal's Ctrl-C and a supervisor's SIGTERM reach the whole process group. The service may still be draining
    # then, so it alone decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    frames = SharedFrames.attach(given.frames, given.slots, given.crop)
    control = Control(socket.socket(fileno=given.control), slots=given.slots)
    _import_everything()
    gc.freeze()  # imported objects are permanent, so collections between videos can skip them
    _fall_silent()
    report = sandbox.enter(given.memory_bytes, parent=given.parent)
    control.send({"type": "ready", "sandbox": asdict(report)})
    give_memory_back = _memory_returner()
    while (job := control.next_job()) is not None:
        done = Task(job, control, frames).run()
        control.send(done.message())
        give_memory_back()
        if done.out_of_memory:  # the heap is full or fragmented: the next video needs a fresh process
            break
    return 0


def arguments(*, control: int, frames: SharedFrames, memory_bytes: int, parent: int) -> list[str]:
    """The command line of a worker."""
    numbers = {
        "control": control,
        "frames": frames.fd,
        "slots": frames.slots,
        "crop": frames.crop,
        "memory-bytes": memory_bytes,
        "parent": parent,
    }
    return ["-m", __name__, *(f"--{name}={number}" for name, number in numbers.items())]


def _import_everything() -> None:
    """Import all of PyAV and decode a small video of our own, because the sandbox forbids later imports.

    PyAV and numpy import some of their parts only on first use.
    """
    for module in pkgutil.walk_packages(av.__path__, "av."):
        if module.name not in ("av.__main__", "av.datasets"):  # a program, and a downloader
            importlib.import_module(module.name)
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


def _memory_returner() -> Callable[[], None]:
    """Return a function that gives freed memory back to the system.

    Without it, every worker would keep the memory of its largest video. A small amount is kept, because the next small
    video would otherwise have to request it again page by page.
    """
    libc = ctypes.CDLL(None)
    trim, heap_info = getattr(libc, "malloc_trim", None), getattr(libc, "mallinfo2", None)  # only the GNU libc has them
    if trim is None or heap_info is None:
        return lambda: None
    heap_info.restype = _Mallinfo2

    def give_back() -> None:
        if heap_info().fordblks > _KEPT_FREE_BYTES:
            trim(0)

    return give_back


def _fall_silent() -> None:
    """Redirect the standard descriptors to /dev/null, because a hostile file could make FFmpeg write to stderr."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

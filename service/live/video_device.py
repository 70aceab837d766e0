"""Captures Motion JPEG from a device of Video4Linux (V4L2), by the kernel's own interface. Standard library only.

The device is opened and set up before the sandbox, which afterwards permits the two calls that fetch a picture and give
its buffer back, and no others. FFmpeg's reader is not used, because it opens the device itself and asks for more calls.

Sources: the kernel's documentation of V4L2 (*Video Capture Interface*, *Streaming I/O (Memory Mapping)*) and the header
``videodev2.h``, whose structures have the same layout on all 64-bit processors.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

WIDTH, HEIGHT = 640, 480
FRAMES_PER_SECOND = 10
"""Asked of the device, which may choose others; a model looks at far fewer."""

_BUFFERS: Final = 4
_CAPTURE: Final = 1  # V4L2_BUF_TYPE_VIDEO_CAPTURE
_MAPPED: Final = 1  # V4L2_MEMORY_MMAP
_MOTION_JPEG: Final = (int.from_bytes(b"MJPG", "little"), int.from_bytes(b"JPEG", "little"))
_ERROR_FLAG: Final = 0x40


def _request(direction: int, number: int, size: int) -> int:
    """The number of an ``ioctl``, as the kernel composes it."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


_FORMAT, _PARAMETERS, _BUFFER = 208, 204, 88  # sizes of the structures in bytes
SET_FORMAT = _request(3, 5, _FORMAT)
REQUEST_BUFFERS = _request(3, 8, 20)
QUERY_BUFFER = _request(3, 9, _BUFFER)
QUEUE_BUFFER = _request(3, 15, _BUFFER)
DEQUEUE_BUFFER = _request(3, 17, _BUFFER)
STREAM_ON = _request(1, 18, 4)
SET_PARAMETERS = _request(3, 22, _PARAMETERS)

SANDBOXED_REQUESTS = (QUEUE_BUFFER, DEQUEUE_BUFFER)
"""What the sandbox has to permit."""

Ioctl = Callable[[int, int, bytearray], None]
Map = Callable[[int, int, int], "memoryview | mmap.mmap"]


class DeviceError(Exception):
    """The device cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture.

    Attributes:
        time_s: when it was taken, on the device's clock.
        data: a JPEG file.
    """

    time_s: float
    data: bytes


def _ioctl(fd: int, request: int, structure: bytearray) -> None:
    fcntl.ioctl(fd, request, structure, True)


def _map(fd: int, length: int, offset: int) -> mmap.mmap:
    return mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=offset)


@dataclass(slots=True)
class VideoDevice:
    """A device that is open. `start` is called before the sandbox, `pictures` in it.

    Args:
        fd: of the device.
        silence_s: a device that delivers nothing for so long is given up.
        ioctl: asks the kernel; tests pass their own.
        map_memory: maps a buffer of the device: descriptor, length, offset.
    """

    fd: int
    silence_s: float
    ioctl: Ioctl = _ioctl
    map_memory: Map = _map
    size: tuple[int, int] = (WIDTH, HEIGHT)
    _buffers: list[memoryview | mmap.mmap] = field(default_factory=list)

    def start(self) -> None:
        """Choose the format, map the buffers and start to capture.

        Raises:
            DeviceError: the device captures no Motion JPEG, or is used by another program.
        """
        try:
            self._choose_format()
            self._map_buffers()
            self.ioctl(self.fd, STREAM_ON, bytearray(struct.pack("=i", _CAPTURE)))
        except OSError as error:
            busy = error.errno in (16, 11)  # EBUSY, EAGAIN
            said = "is used by another program" if busy else f"cannot capture: {os.strerror(error.errno or 0)}"
            raise DeviceError(f"the device {said}") from None

    def pictures(self) -> Iterator[Picture]:
        """The pictures as they are taken, without those that the driver marks as damaged.

        Raises:
            DeviceError: the device was unplugged.
            TimeoutError: it delivers nothing.
        """
        waiting = select.poll()
        waiting.register(self.fd, select.POLLIN)
        while True:
            if not waiting.poll(self.silence_s * 1000):
                raise TimeoutError
            buffer = self._empty_buffer()
            try:
                self.ioctl(self.fd, DEQUEUE_BUFFER, buffer)
            except BlockingIOError:
                continue
            except OSError as error:
                raise DeviceError(f"the device was lost: {os.strerror(error.errno or 0)}") from None
            index, _, used, flags = struct.unpack_from("=IIII", buffer)
            seconds, microseconds = struct.unpack_from("=qq", buffer, 24)
            good = index < len(self._buffers) and not flags & _ERROR_FLAG
            data = bytes(self._buffers[index][:used]) if good else b""
            self.ioctl(self.fd, QUEUE_BUFFER, self._empty_buffer(index))
            if data:
                yield Picture(seconds + microseconds / 1e6, data)

    def _choose_format(self) -> None:
        chosen = bytearray(_FORMAT)
        struct.pack_into("=I", chosen, 0, _CAPTURE)
        struct.pack_into("=IIII", chosen, 8, WIDTH, HEIGHT, _MOTION_JPEG[0], 0)
        self.ioctl(self.fd, SET_FORMAT, chosen)
        width, height, pixel_format = struct.unpack_from("=III", chosen, 8)
        if pixel_format not in _MOTION_JPEG:
            name = pixel_format.to_bytes(4, "little").decode("ascii", "replace")
            raise DeviceError(f"the device must capture Motion JPEG, it offers {name!r}")
        self.size = width, height
        rate = bytearray(_PARAMETERS)
        struct.pack_into("=IIIII", rate, 0, _CAPTURE, 0, 0, 1, FRAMES_PER_SECOND)
        try:
            self.ioctl(self.fd, SET_PARAMETERS, rate)
        except OSError:
            return  # the device has one rate

    def _map_buffers(self) -> None:
        asked = bytearray(20)
        struct.pack_into("=III", asked, 0, _BUFFERS, _CAPTURE, _MAPPED)
        self.ioctl(self.fd, REQUEST_BUFFERS, asked)
        (count,) = struct.unpack_from("=I", asked)
        if not count:
            raise DeviceError("the device has no buffers that can be mapped")
        for index in range(count):
            buffer = self._empty_buffer(index)
            self.ioctl(self.fd, QUERY_BUFFER, buffer)
            offset, length = struct.unpack_from("=I", buffer, 64)[0], struct.unpack_from("=I", buffer, 72)[0]
            self._buffers.append(self.map_memory(self.fd, length, offset))
            self.ioctl(self.fd, QUEUE_BUFFER, self._empty_buffer(index))

    @staticmethod
    def _empty_buffer(index: int = 0) -> bytearray:
        buffer = bytearray(_BUFFER)
        struct.pack_into("=II", buffer, 0, index, _CAPTURE)
        struct.pack_into("=I", buffer, 60, _MAPPED)
        return buffer

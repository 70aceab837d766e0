"""A worker's end of the control socket, and what it has heard there."""

from __future__ import annotations

import json
import os
import socket
import time
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from service.decode.ipc import MAX_MESSAGE_BYTES, encode
from video.limits import MediaLimits

# Looking costs some microseconds, as much as a small packet takes to decode.
_LOOK_EVERY_SECONDS = 0.005
_FD_BYTES = array("i").itemsize


class ClosedError(Exception):
    """Nobody wants the video any more. Not one of the errors that decoding catches, so it ends whatever goes on."""


@dataclass(frozen=True)
class Job:
    """What the service wants of one video; `service.decode.job.DecodeJob` as it arrives.

    Attributes:
        fd: the spool, opened for reading.
        frames: sampled frames.
        focus_frames: of a clip model; None for others.
        first_frame: no frame before it is sampled.
        order: positions in time in visiting order.
        resize: length of the shorter side after resizing, pixels.
        crop: side of the centre square, pixels.
        slots: that may be used; None: all.
        limits: what is accepted.
        size: bytes in the spool when the job was sent.
        complete: whether these are all.
        expected: how many there will be, if known.
    """

    fd: int
    frames: int
    focus_frames: int | None
    first_frame: int
    order: tuple[int, ...]
    resize: int
    crop: int
    slots: int | None
    limits: MediaLimits
    size: int
    complete: bool
    expected: int | None

    @classmethod
    def parse(cls, message: dict[str, object], fd: int) -> Job:
        """The job in a message of the service, which is trusted."""
        fields = {name: value for name, value in message.items() if name != "type"}
        limits = {name: tuple(v) if isinstance(v, list) else v for name, v in _mapping(fields.pop("limits")).items()}
        order = fields.pop("order")
        if not isinstance(order, list):
            raise TypeError("order must be a list")
        return cls(fd=fd, order=tuple(order), limits=MediaLimits(**limits), **fields)  # type: ignore[arg-type]


@dataclass
class Control:
    """What a worker says to the service, and what it knows from it.

    Attributes:
        socket: blocking; messages keep their bounds.
        slots: of the shared memory.
        free: slots that may be written.
        closing: nobody wants the rest of this job.
        size: bytes of the spool that have arrived.
        complete: whether these are all.
        expected: how many there will be, if known.
    """

    socket: socket.socket
    slots: int
    free: list[int] = field(default_factory=list)
    closing: bool = False
    size: int = 0
    complete: bool = False
    expected: int | None = None
    _looked: float = 0.0

    def send(self, message: Mapping[str, object]) -> None:
        """Say something."""
        try:
            self.socket.send(encode(message))
        except OSError:
            _leave()

    def next_job(self) -> Job | None:
        """Wait for a job; None when there will be no more."""
        while True:
            try:
                received = self._receive()
            except OSError:
                return None
            if received is None:
                return None
            message, fds = received
            if message["type"] == "job" and len(fds) == 1:
                return self._begin(Job.parse(message, fds[0]))
            _close_all(fds)

    def check(self) -> None:
        """Hear what has been said meanwhile, without waiting. Called between packets, so mostly it does not even look.

        Raises:
            ClosedError: nobody wants the video any more.
        """
        now = time.monotonic()
        if now - self._looked >= _LOOK_EVERY_SECONDS:
            self._looked = now
            while not self.closing and self._hear(socket.MSG_DONTWAIT):
                pass
        if self.closing:
            raise ClosedError

    def wait_for(self, size: int | None) -> None:
        """Wait until there are ``size`` bytes, or no more will come (None: until then).

        Raises:
            ClosedError: nobody wants the video any more.
        """
        if self.closing:  # FFmpeg may well try again after an error
            raise ClosedError
        known = self.size
        self.send({"type": "need", "size": size})
        while not self.complete and self.size == known:
            self._hear()
            if self.closing:
                raise ClosedError

    def wait_for_slot(self) -> int:
        """Wait until a slot may be written: that is how a slow engine stops the decoder.

        Raises:
            ClosedError: nobody wants the video any more.
        """
        self.check()
        while not self.free:
            self._hear()
            if self.closing:
                raise ClosedError
        return self.free.pop()

    def _begin(self, job: Job) -> Job:
        self.free = list(range(self.slots if job.slots is None else min(self.slots, job.slots)))
        self.closing = False
        self.size, self.complete, self.expected = job.size, job.complete, job.expected
        return job

    def _hear(self, flags: int = 0) -> bool:
        """Take in one message; False if there is none and ``flags`` say not to wait."""
        try:
            received = self._receive(flags)
        except BlockingIOError:
            return False
        except OSError:
            _leave()
        if received is None:
            _leave()
        message, fds = received
        _close_all(fds)
        match message["type"]:
            case "free":
                self.free.append(_integer(message["slot"]))
            case "more":
                self.size, self.complete = _integer(message["size"]), bool(message["complete"])
            case "close":
                self.closing = True
        return True

    def _receive(self, flags: int = 0) -> tuple[dict[str, object], list[int]] | None:
        # Not socket.recv_fds: it forgets the flags.
        data, attached, _, _ = self.socket.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_FD_BYTES), flags)
        fds = array("i")
        for level, kind, content in attached:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % _FD_BYTES])
        return (_mapping(json.loads(data)), fds.tolist()) if data else None


def _leave() -> NoReturn:
    """The service is gone, and so is the reason to be here. Not by an exception: a decoder's callback loses those."""
    os._exit(0)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("a message must be an object")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a number must be whole")
    return value

"""The worker's end of the control socket, and the state that the service's messages have set."""

from __future__ import annotations

import json
import os
import socket
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NoReturn

from adafocus.service.decode.intervals import Intervals
from adafocus.service.decode.ipc import MAX_MESSAGE_BYTES, encode
from adafocus.video.limits import MediaLimits
from adafocus.video.sampler import Snap
from adafocus.video.transform import Fit

# Polling the socket costs some microseconds, as much as decoding a small packet.
_LOOK_EVERY_SECONDS = 0.005
_HELD_SECONDS = 0.01
_FD_BYTES = array("i").itemsize
_JOB_FDS = 2


class ClosedError(Exception):
    """The request was closed. Decoding does not catch this error, so it always ends the job."""


@dataclass(frozen=True)
class JobWindow:
    """A `service.decode.job.WindowJob` as the worker receives it."""

    window_s: float
    stride_s: float
    number: int
    again: bool


@dataclass(frozen=True)
class Job:
    """A `service.decode.job.DecodeJob` as the worker receives it.

    Attributes:
        fd: the spool, opened for reading.
        frames_fd: the memory for its frames.
        memory: number of that memory; 0: of memory that no other job uses.
        frames: number of sampled frames.
        focus_frames: number of focus frames of a clip model; None for other models.
        first_frame: no frame before this index is sampled.
        order: positions in time in visiting order.
        snap: whether sampled frames move to key frames of their intervals.
        resize: length of the shorter side after resizing, pixels.
        crop: side of the square, pixels.
        fit: how a picture becomes that square.
        slots: number of slots that may be used; None: all.
        max_cpu_seconds: processor time after which nothing is decoded any more, once there is a frame; None: no limit.
        window: the window from which the frames are sampled; None: the whole video.
        limits: which videos are accepted.
        size: bytes in the spool when the job was sent.
        complete: whether the spool was complete then.
        expected: final size of the spool in bytes, if known.
        sparse: whether its bytes arrive in any order.
    """

    fd: int
    frames_fd: int
    memory: int
    frames: int
    focus_frames: int | None
    first_frame: int
    order: tuple[int, ...]
    snap: Snap
    resize: int
    crop: int
    fit: Fit
    slots: int | None
    max_cpu_seconds: float | None
    window: JobWindow | None
    limits: MediaLimits
    size: int
    complete: bool
    expected: int | None
    sparse: bool

    @classmethod
    def parse(cls, message: dict[str, object], fd: int, frames_fd: int) -> Job:
        """Parse the job in a message from the service. The message is trusted."""
        wanted = _wanted(str(message["wanted"]))
        rest = {name: message[name] for name in ("size", "complete", "expected", "sparse", "memory")}
        window = message["window"]
        asked = None if window is None else JobWindow(**_mapping(window))  # type: ignore[arg-type] # trusted
        return cls(fd=fd, frames_fd=frames_fd, window=asked, **wanted, **rest)  # type: ignore[arg-type] # trusted


@lru_cache(maxsize=16)
def _wanted(text: str) -> dict[str, object]:
    """The part of a job that is the same for many videos."""
    fields = _mapping(json.loads(text))
    limits = {name: tuple(v) if isinstance(v, list) else v for name, v in _mapping(fields.pop("limits")).items()}
    order = fields.pop("order")
    if not isinstance(order, list):
        raise TypeError(f"order must be a list, got {type(order).__name__}")
    return {**fields, "order": tuple(order), "limits": MediaLimits(**limits)}  # type: ignore[arg-type] # trusted


@dataclass
class Control:
    """The worker's connection to the service, and the state of the current job.

    Attributes:
        socket: a blocking SEQPACKET socket.
        slots: number of slots of a job's memory.
        free: slots that may be written.
        closing: the service has closed this job.
        silent: it does not wait for the end of it.
        size: bytes of the spool that have arrived.
        complete: whether all bytes have arrived.
        expected: final size of the spool in bytes, if known.
        present: ranges of a sparse spool that have arrived, as far as this worker knows.
    """

    socket: socket.socket
    slots: int
    free: list[int] = field(default_factory=list)
    closing: bool = False
    silent: bool = False
    size: int = 0
    complete: bool = False
    expected: int | None = None
    present: Intervals = field(default_factory=Intervals)
    _look_at: float = 0.0
    _first: bool = True  # no frame of this job has been sent
    _held: bytes | None = None
    _held_until: float = 0.0

    def send(self, message: Mapping[str, object]) -> None:
        """Send a message to the service, behind the one that is held back. Ends the process if the service is gone."""
        self._send(encode(message))

    def send_frame(self, message: Mapping[str, object]) -> None:
        """Send the message about a frame, or hold it back: after the first, every other frame comes with its successor.

        Reading two messages together costs the service little more than reading one. A message is held back until the
        next one, until this worker waits, or for some milliseconds, whichever is first. The first frame of a job is
        never held back, because the first step waits for it.
        """
        data, first, self._first = encode(message), self._first, False
        if first or self._held is not None:
            self._send(data)
        else:
            self._held, self._held_until = data, time.monotonic() + _HELD_SECONDS

    def _send(self, *messages: bytes) -> None:
        held, self._held = self._held, None
        try:
            self.socket.send(b"\n".join(messages if held is None else (held, *messages)))
        except OSError:
            _leave()

    def _send_held(self) -> None:
        if self._held is not None:
            self._send()

    def next_job(self, forget: Callable[[], None] = lambda: None) -> Job | None:
        """Wait for a job; None when the service has closed the connection.

        Args:
            forget: called when the video that is kept open will not be asked for again.
        """
        while True:
            try:
                received = self._receive()
            except OSError:
                return None
            if received is None:
                return None
            message, fds = received
            if message["type"] == "job" and len(fds) == _JOB_FDS:
                return self._begin(Job.parse(message, *fds))
            _close_all(fds)
            if message["type"] == "forget":
                forget()

    def check(self) -> bool:
        """Handle messages that have arrived, without waiting.

        This is called between packets, so it polls the socket only if some time has passed since the last poll.

        Returns:
            Whether the socket was polled.

        Raises:
            ClosedError: the request was closed.
        """
        now = time.monotonic()
        due = now >= self._look_at
        if due:
            self._look_at = now + _LOOK_EVERY_SECONDS
            if now >= self._held_until:
                self._send_held()
            while not self.closing and self._hear(socket.MSG_DONTWAIT):
                pass
        if self.closing:
            raise ClosedError
        return due

    def wait_for(self, size: int | None) -> None:
        """Wait until ``size`` bytes have arrived or the spool is complete. None: until the spool is complete.

        Raises:
            ClosedError: the request was closed.
        """
        if self.closing:  # FFmpeg may try again after an error
            raise ClosedError
        known = self.size
        self.send({"type": "need", "size": size})
        while not self.complete and self.size == known:
            self._hear()
            if self.closing:
                raise ClosedError

    def wait_for_range(self, start: int, stop: int) -> None:
        """Wait until the bytes ``start``..``stop - 1`` of a sparse spool have arrived.

        Raises:
            ClosedError: the request was closed.
        """
        if self.closing:
            raise ClosedError
        self.send({"type": "need", "start": start, "size": stop})
        while not self.present.covers(start, stop):
            self._hear()
            if self.closing:
                raise ClosedError

    def wait_for_slot(self) -> int:
        """Wait until a slot may be written. This is how a slow engine holds the decoder back.

        Raises:
            ClosedError: the request was closed.
        """
        self.check()
        if not self.free:
            self._send_held()
        while not self.free:
            self._hear()
            if self.closing:
                raise ClosedError
        return self.free.pop(0)  # frames that follow each other lie side by side, and need not be copied together

    def _begin(self, job: Job) -> Job:
        self.free = list(range(self.slots if job.slots is None else min(self.slots, job.slots)))
        self.closing, self.silent, self._first = False, False, True
        self.size, self.complete, self.expected = job.size, job.complete, job.expected
        self.present = Intervals()  # the session of each job tells anew what is there
        return job

    def _hear(self, flags: int = 0) -> bool:
        """Handle one message; False if there is none and ``flags`` say not to wait."""
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
            case "more" if "start" in message:
                self.present.add(_integer(message["start"]), _integer(message["size"]))
            case "more":
                self.size, self.complete = _integer(message["size"]), bool(message["complete"])
            case "close":
                self.closing, self.silent = True, bool(message["silent"])
        return True

    def _receive(self, flags: int = 0) -> tuple[dict[str, object], list[int]] | None:
        # socket.recv_fds cannot be used, because it ignores the flags.
        data, attached, _, _ = self.socket.recvmsg(MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_JOB_FDS * _FD_BYTES), flags)
        fds = array("i")
        for level, kind, content in attached:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(content[: len(content) - len(content) % _FD_BYTES])
        return (_mapping(json.loads(data)), fds.tolist()) if data else None


def _leave() -> NoReturn:
    """End the process because the service is gone. An exception would be lost in a decoder's callback."""
    os._exit(0)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _mapping(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"a message must be a JSON object, got {type(value).__name__}")
    return value


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"a number must be an integer, got {value!r}")
    return value

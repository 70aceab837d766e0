"""Messages from a decode worker. They are untrusted, so their fields, types and ranges are checked strictly."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from adafocus.service.decode.ipc import MAX_MESSAGE_BYTES, MAX_TIME_SECONDS
from adafocus.service.decode.worker.sandbox import SandboxReport
from adafocus.video.probe import MAX_FRAMES_PER_SECOND, VideoInfo

Word = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_.,-]{1,64}\Z")]
Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 40)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
Side = Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]  # FFmpeg's type; a narrow strip may be very long
Words = Annotated[list[Annotated[str, msgspec.Meta(max_length=200)]], msgspec.Meta(max_length=16)]


class ProtocolError(Exception):
    """A worker sent a message that the protocol does not allow, or does not allow now."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of a message. Fields that a message may not have are refused, as are values of another JSON type."""


class _Reply(Part, frozen=True, kw_only=True, tag_field="type"):
    @property
    def type(self) -> str:
        """Which message it is."""
        return str(self.__struct_config__.tag)


class Sandbox(Part, frozen=True, kw_only=True):
    """`SandboxReport` as a message. The worker sends it before it reads any untrusted byte."""

    no_new_privileges: bool
    landlock: Annotated[int, msgspec.Meta(ge=0, le=1000)]
    seccomp: bool
    memory_limit_bytes: Annotated[int, msgspec.Meta(ge=0)] | None
    missing: Words

    def report(self) -> SandboxReport:
        """Convert to a `SandboxReport`."""
        return SandboxReport(
            self.no_new_privileges, self.landlock, self.seccomp, self.memory_limit_bytes, tuple(self.missing)
        )


class Ready(_Reply, frozen=True, kw_only=True, tag="ready"):
    """The worker is in its sandbox and waits for its first job."""

    sandbox: Sandbox


class Info(Part, frozen=True, kw_only=True):
    """`VideoInfo` as a message."""

    container: Word
    codec: Word
    width: Side
    height: Side
    fps: Annotated[float, msgspec.Meta(gt=0, le=MAX_FRAMES_PER_SECOND)] | None
    duration_s: Seconds | None
    frames: Count | None
    rotation: Literal[0, 90, 180, 270]


class WindowOpened(Part, frozen=True, kw_only=True):
    """The window that the frames come from, and how many the video has."""

    start_s: Seconds
    end_s: Seconds
    count: Annotated[int, msgspec.Meta(ge=1, lt=1 << 40)]


class FrameReady(_Reply, frozen=True, kw_only=True, tag="frame"):
    """A slot of the shared memory now holds a frame."""

    slot: Count
    position: Count
    index: Count
    time_s: Annotated[float, msgspec.Meta(ge=-MAX_TIME_SECONDS, le=MAX_TIME_SECONDS)] | None
    frames_decoded: Count
    seconds: Seconds
    cpu_seconds: Seconds


class Opened(_Reply, frozen=True, kw_only=True, tag="opened"):
    """The video passed its checks; its first frame comes along if it could be decoded.

    Only a job for a window has ``window``.
    """

    info: Info
    window: WindowOpened | None = None
    frames_decoded: Count
    seconds: Seconds
    cpu_seconds: Seconds
    frame: FrameReady | None = None

    def video(self) -> VideoInfo:
        """Convert to a `VideoInfo`."""
        told = self.info
        return VideoInfo(
            container=told.container,
            codec=told.codec,
            width=told.width,
            height=told.height,
            fps=told.fps,
            duration_s=told.duration_s,
            frames=told.frames,
            rotation=told.rotation,
        )


class Need(_Reply, frozen=True, kw_only=True, tag="need"):
    """The worker waits until the spool holds ``size`` bytes or is complete. None: until the spool is complete.

    Of a sparse spool it waits for the bytes from ``start`` up to ``size``.
    """

    size: Count | None
    start: Count | None = None


class Failure(Part, frozen=True, kw_only=True):
    """The reason why a job failed: a code of `video.errors`, or `OUT_OF_MEMORY` or `FAULT` of `ipc`."""

    code: Word
    detail: Annotated[str, msgspec.Meta(max_length=4000)]


class Done(_Reply, frozen=True, kw_only=True, tag="done"):
    """The job has ended."""

    frames_decoded: Count
    seconds: Seconds
    cpu_seconds: Seconds
    capped: bool
    error: Failure | None


Reply = Ready | Opened | FrameReady | Need | Done
_DECODER: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)


def parse(data: bytes) -> list[Reply]:
    """Parse the messages that a worker has sent together, one a line. There is at least one.

    Raises:
        ProtocolError: they are too long, or one is not a valid message.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"messages must have at most {MAX_MESSAGE_BYTES} bytes")
    try:
        replies = _DECODER.decode_lines(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ProtocolError(f"invalid message: {str(error)[:150]}") from None
    if not replies:
        raise ProtocolError("invalid message: it is empty")
    return replies


def printable(text: str, *, most: int = 300) -> str:
    """Shorten a worker's text and replace unprintable characters, so that it fits on one line of a response or log."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:most])

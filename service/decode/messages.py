"""Messages from a decode worker. They are untrusted, so their fields, types and ranges are checked strictly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from adafocus.service.decode.ipc import MAX_MESSAGE_BYTES, MAX_TIME_SECONDS
from adafocus.service.decode.worker.sandbox import SandboxReport
from adafocus.video.probe import MAX_FRAMES_PER_SECOND, VideoInfo

Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.,-]{1,64}$")]
Count = Annotated[int, Field(ge=0, lt=1 << 40)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Side = Annotated[int, Field(ge=1, lt=1 << 31)]  # FFmpeg's type; a narrow strip may be very long


class ProtocolError(Exception):
    """A worker sent a message that the protocol does not allow, or does not allow now."""


class _Reply(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


class Sandbox(_Reply):
    """`SandboxReport` as a message. The worker sends it before it reads any untrusted byte."""

    no_new_privileges: bool
    landlock: int = Field(ge=0, le=1000)
    seccomp: bool
    memory_limit_bytes: Annotated[int, Field(ge=0)] | None
    missing: list[Annotated[str, StringConstraints(max_length=200)]] = Field(max_length=16)

    def report(self) -> SandboxReport:
        """Convert to a `SandboxReport`."""
        return SandboxReport(
            self.no_new_privileges, self.landlock, self.seccomp, self.memory_limit_bytes, tuple(self.missing)
        )


class Ready(_Reply):
    """The worker is in its sandbox and waits for its first job."""

    type: Literal["ready"]
    sandbox: Sandbox


class Info(_Reply):
    """`VideoInfo` as a message."""

    container: Word
    codec: Word
    width: Side
    height: Side
    fps: Annotated[float, Field(gt=0, le=MAX_FRAMES_PER_SECOND)] | None
    duration_s: Seconds | None
    frames: Count | None
    rotation: Literal[0, 90, 180, 270]


class WindowOpened(_Reply):
    """The window that the frames come from, and how many the video has."""

    start_s: Seconds
    end_s: Seconds
    count: Annotated[int, Field(ge=1, lt=1 << 40)]


class FrameReady(_Reply):
    """A slot of the shared memory now holds a frame."""

    type: Literal["frame"]
    slot: Count
    position: Count
    index: Count
    time_s: Annotated[float, Field(ge=-MAX_TIME_SECONDS, le=MAX_TIME_SECONDS)] | None
    frames_decoded: Count
    seconds: Seconds
    cpu_seconds: Seconds


class Opened(_Reply):
    """The video passed its checks; its first frame comes along if it could be decoded.

    Only a job for a window has ``window``.
    """

    type: Literal["opened"]
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


class Need(_Reply):
    """The worker waits until the spool holds ``size`` bytes or is complete. None: until the spool is complete.

    Of a sparse spool it waits for the bytes from ``start`` up to ``size``.
    """

    type: Literal["need"]
    size: Count | None
    start: Count | None = None


class Failure(_Reply):
    """The reason why a job failed: a code of `video.errors`, or `OUT_OF_MEMORY` or `FAULT` of `ipc`."""

    code: Word
    detail: str = Field(max_length=4000)


class Done(_Reply):
    """The job has ended."""

    type: Literal["done"]
    frames_decoded: Count
    seconds: Seconds
    cpu_seconds: Seconds
    capped: bool
    error: Failure | None


Reply = Ready | Opened | FrameReady | Need | Done
_ADAPTER: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="type")])


def parse(data: bytes) -> Reply:
    """Parse a message from a worker.

    Raises:
        ProtocolError: it is too long, or is not a valid message.
    """
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"a message must have at most {MAX_MESSAGE_BYTES} bytes")
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(str(part)[:40] for part in first["loc"][:3])
        raise ProtocolError(f"invalid message: {where}: {first['msg'][:100]}") from None


def printable(text: str, *, most: int = 300) -> str:
    """Shorten a worker's text and replace unprintable characters, so that it fits on one line of a response or log."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:most])

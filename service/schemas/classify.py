"""The words of the HTTP API: what may be asked of a classification and what is answered (PRODUCT section 3)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from bundle.manifest import Manifest
from service.errors import BadParameter

DEFAULT_TOP_K = 5
MAX_DEADLINE_MS = 86_400_000.0
MAX_GFLOPS = 1e9
_NUMBER = re.compile(r"[0-9]{1,20}(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?")


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ModelAnswer(_Answer):
    """Which model answered."""

    name: str
    version: str
    precision: str
    backend: str


class Prediction(_Answer):
    """One class and its score."""

    label: str
    index: int = Field(description="place of the label in the bundle's list, from 0")
    score: float = Field(description="calibrated probability, 0..1")


class ExitAnswer(_Answer):
    """Where the model stopped looking, and why."""

    point: str = Field(description="operating point")
    reason: Literal["confident", "all_steps", "max_gflops", "deadline", "end_of_video"]
    step: int = Field(description="the step that answered, from 1")
    steps: int = Field(description="steps of the model")
    confidence: float = Field(description="what the exit rule compared with the threshold")
    threshold: float | None = Field(description="null where this operating point never leaves, and at the last step")


class ComputeAnswer(_Answer):
    """What the answer cost, in 1e9 multiply-adds: only work done for this request."""

    gflops: float
    gflops_full: float = Field(description="the same video without exit")
    glance_gflops: float
    focus_gflops: float
    frames_used: int = Field(description="frames that the model saw")
    frames_decoded: int = Field(description="frames decoded to reach them")


class TimingAnswer(_Answer):
    """Milliseconds of wall time per stage; stages overlap, so they need not add up to the total."""

    total: float
    upload: float
    queue: float
    decode: float
    glance: float
    focus: float

    def server_timing(self) -> str:
        """The same as the value of a ``Server-Timing`` header."""
        stages: dict[str, float] = self.model_dump()
        return ", ".join(f"{stage};dur={milliseconds:g}" for stage, milliseconds in stages.items())


class VideoAnswer(_Answer):
    """The uploaded video as it presents itself; null where it does not say."""

    container: str
    codec: str
    width: int = Field(description="pixels as displayed: rotation applied")
    height: int
    fps: float | None
    duration_s: float | None
    frames: int | None


class PatchAnswer(_Answer):
    """The patch that the focus saw, in pixels of the uploaded video as displayed."""

    x: int
    y: int
    width: int
    height: int


class TraceEntry(_Answer):
    """One step."""

    step: int = Field(description="from 1")
    frame: int = Field(description="index in the uploaded video, from 0")
    time_s: float | None
    patch: PatchAnswer
    label: str = Field(description="the best class after this step")
    confidence: float = Field(description="what the exit rule compared with the threshold")


class StepImage(_Answer):
    """What the glance of a step saw, as a picture."""

    data: str = Field(description="data URI of a small JPEG")
    view: PatchAnswer = Field(description="the part of the uploaded video that it shows")
    width: int = Field(description="of the uploaded video, in whose pixels `view` and `patch` are told")
    height: int


class StepEvent(TraceEntry):
    """A step that has just finished: the data of an event `step`."""

    place: int = Field(description="which of the sampled frames this is, counted along the video from 0")
    threshold: float | None = Field(description="null where this operating point never leaves, and at the last step")
    gflops: float = Field(description="price of the steps so far, in 1e9 multiply-adds")
    elapsed_ms: float = Field(description="since the first byte of the request")
    image: StepImage | None = Field(default=None, description="only with frames=true")

    def to_json(self) -> str:
        """The JSON text; ``image`` is left out where it was not asked for."""
        return self.model_dump_json(exclude={"image"} if self.image is None else None)


class Classification(_Answer):
    """The answer of ``POST /classify``."""

    id: str = Field(description="the request's id, as in X-Request-ID")
    model: ModelAnswer
    predictions: list[Prediction] = Field(description="best first")
    exit: ExitAnswer
    compute: ComputeAnswer
    timing_ms: TimingAnswer
    video: VideoAnswer
    trace: list[TraceEntry] | None = Field(default=None, description="only with trace=true")

    def to_json(self) -> str:
        """The JSON text; ``trace`` is left out where it was not asked for."""
        return self.model_dump_json(exclude={"trace"} if self.trace is None else None)


class ProblemDocument(BaseModel):
    """An error, after RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(description="names the request by its id")
    code: str = Field(description="stable, for programs")


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a caller asks of one classification; every value is within what the bundle permits."""

    exit: str
    top_k: int
    max_gflops: float | None = None
    deadline_ms: float | None = None
    trace: bool = False
    stream: bool = False
    frames: bool = False


def parse_parameters(pairs: Iterable[tuple[str, str]], manifest: Manifest) -> Parameters:
    """Parse query parameters against the bundle they are meant for.

    Args:
        pairs: names and values as they came; each name at most once.
        manifest: knows the operating points, the classes and the price of a step.

    Raises:
        BadParameter: names the first that is unknown, repeated or out of range, and what is permitted.
    """
    given: dict[str, str] = {}
    for name, value in pairs:
        if name not in PARAMETERS:
            raise BadParameter(f"unknown parameter {_shown(name)}; there are {', '.join(PARAMETERS)}")
        if name in given:
            raise BadParameter(f"{name} was given more than once")
        given[name] = value
    stream, frames = (_flag(name, given.get(name, "false")) for name in ("stream", "frames"))
    return Parameters(
        exit=_exit(given.get("exit", manifest.default_point), manifest),
        top_k=_top_k(given["top_k"], manifest) if "top_k" in given else min(DEFAULT_TOP_K, len(manifest.labels)),
        max_gflops=_max_gflops(given["max_gflops"], manifest) if "max_gflops" in given else None,
        deadline_ms=_deadline_ms(given["deadline_ms"]) if "deadline_ms" in given else None,
        trace=_flag("trace", given.get("trace", "false")),
        stream=stream,
        frames=frames,
    )


PARAMETERS: dict[str, str] = {
    "exit": "name of an operating point of the bundle; default: the bundle's own choice",
    "top_k": f"how many predictions, 1 to the number of classes; default {DEFAULT_TOP_K}, or all if there are fewer",
    "max_gflops": "hard cap on this request's compute: best answer so far when the next step would pass it",
    "deadline_ms": "the answer is due this long after the first byte: best so far, or 504 when there is none yet",
    "trace": "true: one entry per step in the answer; default false",
    "stream": "true: answered as text/event-stream, an event `step` per step and one `result`; default false",
    "frames": "true: each event `step` holds its frame as a small JPEG; nothing without stream=true; default false",
}
"""The query parameters, with what they mean."""


def _exit(value: str, manifest: Manifest) -> str:
    names = [point.name for point in manifest.operating_points]
    if value not in names:
        raise BadParameter(f"exit is one of {', '.join(names)}; got {_shown(value)}")
    return value


def _top_k(value: str, manifest: Manifest) -> int:
    classes = len(manifest.labels)
    if not (value.isascii() and value.isdecimal() and len(value) < 10 and 1 <= int(value) <= classes):
        raise BadParameter(f"top_k is a whole number from 1 to {classes}; got {_shown(value)}")
    return int(value)


def _max_gflops(value: str, manifest: Manifest) -> float:
    least = manifest.flops.per_step / 1e9
    number = _number(value)
    # Below the price of the first step there could be no answer at all.
    if number is None or not least <= number <= MAX_GFLOPS:
        raise BadParameter(
            f"max_gflops is a number of at least {least:g}, the price of one step, and at most {MAX_GFLOPS:g}; "
            f"got {_shown(value)}"
        )
    return number


def _deadline_ms(value: str) -> float:
    number = _number(value)
    if number is None or not 1 <= number <= MAX_DEADLINE_MS:
        raise BadParameter(f"deadline_ms is a number from 1 to {MAX_DEADLINE_MS:.0f}; got {_shown(value)}")
    return number


def _flag(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadParameter(f"{name} is true or false; got {_shown(value)}")
    return value == "true"


def _number(value: str) -> float | None:
    # float() alone would also take "nan", "1_000", blanks and the digits of every script.
    return float(value) if _NUMBER.fullmatch(value) else None


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "…")

"""The schemas of ``/classify``: its answer and its events."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, Field

from adafocus.bundle.exit_rule import ExitComponent, ExitReason
from adafocus.service.schemas.answer import Answer


class ModelAnswer(Answer):
    """The model that answered."""

    name: str
    version: str
    precision: str
    backend: str


class Prediction(Answer):
    """One class and its score."""

    left_out_if_none: ClassVar[tuple[str, ...]] = ("present",)

    label: str
    index: int = Field(description="Index of the label in the bundle's list, from 0.")
    score: float = Field(description="Calibrated probability, 0 to 1.")
    present: bool | None = Field(
        default=None,
        description="Whether the video has the label: its score is above the label's threshold. Only of a bundle whose "
        "videos may have several labels; those that are present come first.",
    )


class ExitAnswer(Answer):
    """The step at which the model exited, and why."""

    point: str = Field(description="Operating point that the video ran at.")
    degraded_from: str | None = Field(
        default=None, description="Operating point that was asked for, if the service was too busy for it; else null."
    )
    reason: ExitReason
    step: int = Field(description="The step that answered, from 1.")
    steps: int = Field(description="Steps of the model.")
    component: ExitComponent = Field(
        description="What the answer came after: `glance` if that step's focus did not run, else `focus`."
    )
    confidence: float = Field(description="The value that the exit rule compared with the threshold.")
    threshold: float | None = Field(description="Null where this operating point never exits, and at the last step.")


class ComputeAnswer(Answer):
    """The cost of the answer: 1e9 multiply-adds, frames and processor time; only work done for this request counts."""

    left_out_if_none: ClassVar[tuple[str, ...]] = ("bytes_fetched",)

    gflops: float
    gflops_full: float = Field(description="The cost of the same video without an early exit.")
    glance_gflops: float
    focus_gflops: float
    frames_used: int = Field(description="Frames that the model used.")
    frames_decoded: int = Field(description="Frames decoded to get them.")
    decode_cpu_ms: float = Field(description="Processor time of opening the video, decoding and resizing.")
    bytes_fetched: int | None = Field(default=None, description="Bytes fetched of a video that was given by URL.")


class TimingAnswer(Answer):
    """Wall time of each stage in milliseconds. Stages overlap, so they need not add up to the total."""

    total: float
    upload: float
    queue: float
    decode: float
    glance: float
    focus: float

    def server_timing(self) -> str:
        """The value of the ``Server-Timing`` header."""
        return (
            f"total;dur={self.total:g}, upload;dur={self.upload:g}, queue;dur={self.queue:g}, "
            f"decode;dur={self.decode:g}, glance;dur={self.glance:g}, focus;dur={self.focus:g}"
        )


class VideoAnswer(Answer):
    """The properties of the uploaded video; null where they are unknown."""

    left_out_if_none: ClassVar[tuple[str, ...]] = ("bytes",)

    container: str
    codec: str
    width: int = Field(description="Pixels as displayed, with rotation applied.")
    height: int
    fps: float | None
    duration_s: float | None
    frames: int | None
    bytes: int | None = Field(default=None, description="Size of a video that was given by URL, if its source tells.")


class PatchAnswer(Answer):
    """A rectangle in pixels of the uploaded video as displayed."""

    x: int
    y: int
    width: int
    height: int


class TraceEntry(Answer):
    """One step of the model."""

    step: int = Field(description="Number of the step, from 1.")
    frame: int = Field(description="Index of the frame in the uploaded video, from 0.")
    time_s: float | None
    patch: PatchAnswer
    label: str = Field(description="The best class after this step.")
    confidence: float = Field(description="The value that the exit rule compared with the threshold.")
    component: ExitComponent = Field(
        default="focus", description="`glance` if the model exited before it looked at the patch."
    )


class StepImage(Answer):
    """The input of a step's glance as a picture."""

    data: str = Field(description="Data URI of a small JPEG.")
    view: PatchAnswer = Field(
        description="The part of the uploaded video that it shows; larger than the video where the picture has bars."
    )
    width: int = Field(description="Width of the uploaded video, in whose pixels `view` and `patch` are given.")
    height: int


class StepEvent(TraceEntry):
    """A step that has just finished: the data of the event `step`."""

    left_out_if_none: ClassVar[tuple[str, ...]] = ("image",)

    place: int = Field(description="Which of the sampled frames this is, in the order of the video, from 0.")
    threshold: float | None = Field(description="Null where this operating point never exits, and at the last step.")
    gflops: float = Field(description="Cost of the steps so far, in 1e9 multiply-adds.")
    elapsed_ms: float = Field(description="Milliseconds since the first byte of the request.")
    image: StepImage | None = Field(default=None, description="Only with frames=true.")


class SegmentAnswer(Answer):
    """One window of a long video."""

    start_s: float = Field(description="Seconds from the start of the video.")
    end_s: float
    predictions: list[Prediction] = Field(description="Best first.")
    exit: ExitAnswer
    compute: ComputeAnswer


class EventAnswer(Answer):
    """Consecutive windows with the same label."""

    start_s: float = Field(description="Seconds from the start of the video.")
    end_s: float
    label: str
    index: int = Field(description="Index of the label in the bundle's list, from 0.")
    score: float = Field(description="Mean score of the label in the windows of the event.")
    windows: int = Field(description="Number of windows.")


class Classification(Answer):
    """The answer of ``POST /classify``."""

    left_out_if_none: ClassVar[tuple[str, ...]] = ("trace", "segments", "events")

    id: str = Field(description="The id of the request, as in X-Request-ID.")
    model: ModelAnswer
    predictions: list[Prediction] = Field(description="Best first.")
    exit: ExitAnswer
    compute: ComputeAnswer
    timing_ms: TimingAnswer
    video: VideoAnswer
    trace: list[TraceEntry] | None = Field(default=None, description="Only with trace=true.")
    segments: list[SegmentAnswer] | None = Field(default=None, description="Only with window_s: one per window.")
    events: list[EventAnswer] | None = Field(
        default=None, description="Only with window_s: runs of windows with the same label."
    )


class ProblemDocument(BaseModel):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str = Field(description="Names the request by its id.")
    code: str = Field(description="Stable code for programs.")

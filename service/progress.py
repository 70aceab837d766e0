"""Reports of finished steps: for the trace of an answer, and for callers that watch the steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from adafocus.bundle.manifest import Manifest
from adafocus.service.engine.request import Step
from adafocus.service.engine.runners.base import UInt8
from adafocus.service.schemas.classify import PatchAnswer, TraceEntry
from adafocus.video.decoder import Frame
from adafocus.video.probe import VideoInfo
from adafocus.video.transform import Geometry, PatchBox, patch_box, view_box

GIGA = 1e9


@dataclass(frozen=True, slots=True)
class StepReport:
    """A step that has just finished.

    Attributes:
        entry: the step's entry in the trace.
        place: which of the sampled frames it used, in the order of the video, from 0.
        threshold: what the confidence was compared with; None where this point never exits, and at the last step. Of
            the exit after the glance where the video left there.
        gflops: cost of the steps so far, 1e9 multiply-adds.
        elapsed_ms: since the request's first byte.
        pixels: ``uint8 [crop, crop, 3]``, RGB: the input of the glance.
        view: the part of the video, as displayed, that ``pixels`` show.
        video: what is known about the video.
    """

    entry: TraceEntry
    place: int
    threshold: float | None
    gflops: float
    elapsed_ms: float
    pixels: UInt8
    view: PatchAnswer
    video: VideoInfo


Observer = Callable[[StepReport], None]
"""Called for each step on the event loop's thread; must not block."""


@dataclass(slots=True)
class StepReporter:
    """The engine's step callback for one request: turns each step into a `StepReport` for the observer.

    Args:
        manifest: of the bundle.
        thresholds: one per step, as the engine compares them.
        glance_thresholds: those after the glance, or empty.
        info: the video.
        observer: called with each report.
        clock: returns seconds.
        started: time of the request's first byte on the clock.
    """

    manifest: Manifest
    thresholds: tuple[float, ...]
    glance_thresholds: tuple[float, ...]
    info: VideoInfo
    observer: Observer
    clock: Callable[[], float]
    started: float
    _reported: int = field(default=0, init=False)

    def __call__(self, step: Step, frame: Frame) -> None:
        """Report one step."""
        after_glance = step.component == "glance"
        threshold = (self.glance_thresholds if after_glance else self.thresholds)[self._reported]
        self._reported += 1
        order, flops = self.manifest.sampling.order, self.manifest.flops
        report = StepReport(
            entry=trace_entry(self.manifest, self._reported, step, self.info),
            place=order[min(frame.position, len(order) - 1)],
            threshold=threshold if math.isfinite(threshold) else None,
            gflops=(self._reported * flops.per_step - after_glance * flops.focus) / GIGA,
            elapsed_ms=round((self.clock() - self.started) * 1e3, 3),
            pixels=frame.pixels,
            view=_answer(view_box(self.info.width, self.info.height, _geometry(self.manifest))),
            video=self.info,
        )
        self.observer(report)


def trace_entry(manifest: Manifest, number: int, step: Step, info: VideoInfo) -> TraceEntry:
    """The trace entry of a step; ``number`` counts from 1."""
    box = patch_box(info.width, info.height, _geometry(manifest), manifest.patch_size, step.patch_centre)
    return TraceEntry(
        step=number,
        frame=step.frame_index,
        time_s=step.time_s,
        patch=_answer(box),
        label=manifest.labels[int(step.logits.argmax())],
        confidence=step.confidence,
        component=step.component,
    )


def _geometry(manifest: Manifest) -> Geometry:
    stated = manifest.geometry
    return Geometry(stated.resize, stated.crop, stated.fit)


def _answer(box: PatchBox) -> PatchAnswer:
    return PatchAnswer(x=box.x, y=box.y, width=box.width, height=box.height)

"""Opens what requests for a model pass through: its engine, and what it shares with the other models."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import Bundle
from adafocus.service.cores import MakeRunner, SharedEngine, make_runner, open_core, reach_core
from adafocus.service.cpu import usable_cores
from adafocus.service.decode.pool import DecodeJob, DecodePool
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.quality import QualityController
from adafocus.service.engine.runners.selection import runs_on_processor
from adafocus.service.engine.shadow_evidence import ShadowEvidence
from adafocus.service.resources import Resources, check_frames_fit, open_resources
from adafocus.service.settings import Settings
from adafocus.service.shadows import Shadows
from adafocus.service.telemetry.metrics import Metrics

__all__ = ["Course", "MakeRunner", "Runtime", "SharedEngine", "make_runner", "open_model", "open_runtime"]


@dataclass(frozen=True, slots=True)
class Course:
    """What the requests for one operating point have in common.

    Attributes:
        thresholds: one per step.
        glance_thresholds: one per step, of exits after the glance; as in the manifest.
        continue_probability: one per step: the chance that a video goes on after it.
        job: of the decoder.
        may_spare_focus_frames: whether a clip may be answered after its glances.
    """

    thresholds: tuple[float, ...]
    glance_thresholds: tuple[float, ...]
    continue_probability: tuple[float, ...]
    job: DecodeJob
    may_spare_focus_frames: bool


@dataclass(frozen=True, slots=True)
class Runtime:
    """The engine of one model and the decoders that requests for it pass through.

    Attributes:
        most_ahead: videos in flight up to which decoders run ahead of the engine. With more, a frame that is decoded
            for a video that then exits takes the processors from the other videos. None: always, because the model runs
            on a device of its own, for which decoders cannot be early enough.
        courses: what was worked out for an operating point, by whether the compute is limited and decoders run ahead.
    """

    engine: Engine
    decoder: DecodePool
    metrics: Metrics
    settings: Settings
    quality: QualityController
    shadows: Shadows
    most_ahead: int | None = None
    courses: dict[tuple[str, bool, bool], Course] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the served bundle."""
        return self.engine.manifest

    def decodes_ahead(self, *, background: bool) -> bool:
        """Whether the decoder of a video runs ahead of the engine now; videos in the background delay no other one."""
        admission = self.engine.admission
        if self.most_ahead is None or admission.slots_taken <= self.most_ahead:
            return True
        return not background and admission.slots_in_foreground() <= self.most_ahead

    @property
    def frames_lie_in_place(self) -> bool:
        """Whether the engine can read frames where the decoders write them: both have the same size."""
        return self.manifest.geometry.crop == self.decoder.settings.crop


@asynccontextmanager
async def open_runtime(
    bundle: Bundle, settings: Settings, metrics: Metrics, make: MakeRunner, shared: SharedEngine | None = None
) -> AsyncIterator[Runtime]:
    """Open one model with all that it needs, and close everything at the end of the block.

    With a shared engine, which loads the model elsewhere, ``max_queue`` is that of all fronts.

    Raises:
        RunnerError: the backend does not exist or cannot run here.
        WorkerStartError: the decoders cannot be started.
    """
    async with (
        open_resources([bundle], settings, metrics, shared) as resources,
        open_model(bundle, resources, make, shared) as runtime,
    ):
        try:
            await resources.decoders_started
            yield runtime
        finally:
            await resources.decoder.close()  # before the engine, so that videos in flight fail as they should


@asynccontextmanager
async def open_model(
    bundle: Bundle, resources: Resources, make: MakeRunner, shared: SharedEngine | None = None
) -> AsyncIterator[Runtime]:
    """Load and warm one model, and close its engine at the end of the block.

    Raises:
        BundleError: its frames are larger than those that the decoders were started for.
        RunnerError: the backend does not exist or cannot run here.
    """
    settings, metrics = resources.settings, resources.metrics
    check_frames_fit(bundle.manifest, resources.decoder.settings)
    manifest, core = await (open_core(bundle, settings, make) if shared is None else reach_core(shared))
    admission = resources.admission
    engine = Engine(
        manifest,
        core,
        slots=admission.slots,
        max_queue=admission.max_queue,
        observer=metrics,
        admission=admission,
    )
    async with running(engine):
        metrics.model_loaded(manifest.name, manifest.version, core.runner.backend, core.runner.precision)
        resources.quality.most = max(resources.quality.most, len(manifest.operating_points) - 1)
        shadows = Shadows(settings.shadow_full_share, metrics, ShadowEvidence(manifest))
        try:
            cores = max(1, usable_cores() // (settings.fronts or 1))
            most_ahead = cores if runs_on_processor(core.runner.backend) else None
            yield Runtime(engine, resources.decoder, metrics, settings, resources.quality, shadows, most_ahead)
        finally:
            await shadows.close()

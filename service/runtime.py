"""Opens the runtime: one runner, one engine and one pool of decoders, for HTTP and for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import Bundle, load_bundle
from adafocus.service.cpu import usable_cores
from adafocus.service.decode.pool import DecodeJob, DecodePool, PoolSettings
from adafocus.service.decode.worker.frame_writer import segment_bytes
from adafocus.service.engine.admission import Places, QueueLimits
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.process import open_core_process
from adafocus.service.engine.quality import QualityController
from adafocus.service.engine.remote import RemoteCore
from adafocus.service.engine.runners.base import Runner
from adafocus.service.engine.runners.graphs import batch_sizes_up_to
from adafocus.service.engine.runners.selection import (
    RunnerOptions,
    abilities_here,
    default_max_batch,
    graph_threads,
    open_runner,
    takes_gpu,
)
from adafocus.service.engine.scheduler import MAX_BATCHES_IN_FLIGHT
from adafocus.service.engine.shadow_evidence import ShadowEvidence
from adafocus.service.engine.supervised import SupervisedCore
from adafocus.service.engine.transport import InProcess, Transport
from adafocus.service.settings import Settings
from adafocus.service.shadows import Shadows
from adafocus.service.telemetry import logs
from adafocus.service.telemetry.metrics import Metrics


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
    """The engine and the decoders that requests pass through, opened and closed together.

    ``courses`` remembers what was worked out for an operating point, with and without a limit on the compute.
    """

    engine: Engine
    decoder: DecodePool
    metrics: Metrics
    settings: Settings
    quality: QualityController
    shadows: Shadows
    courses: dict[tuple[str, bool], Course] = field(default_factory=dict)

    @property
    def manifest(self) -> Manifest:
        """The manifest of the served bundle."""
        return self.engine.manifest


BATCHES_OF_VIDEOS = 4
"""Videos in flight on a GPU, in full batches: two at the device, and as many that wait for a frame."""

MAX_PLACES = 1 << 20
"""More than any service has: where the places are those of several processes, none limits its own."""

MAX_DECODED_AHEAD = 64
"""Frames that a decoder may have ready of a video that will probably need them."""


@dataclass(frozen=True, slots=True)
class SharedEngine:
    """What a front is told of the engine that it shares with others.

    Attributes:
        path: of the hub's socket.
        front: number of the front.
        slots: of each front, as the hub knows them.
        places: of all fronts.
    """

    path: Path
    front: int
    slots: int
    places: Places


RESERVED_SLOTS = 1
"""Slots and decoders that only a caller may use who has none while all others are taken: nobody can hold them all."""

MakeRunner = Callable[[Bundle, Settings], Runner]


@asynccontextmanager
async def open_runtime(
    bundle: Bundle, settings: Settings, metrics: Metrics, make: MakeRunner, shared: SharedEngine | None = None
) -> AsyncIterator[Runtime]:
    """Load and warm the model, start the decoders, and close everything at the end of the block.

    With a shared engine, which loads the model elsewhere, ``max_queue`` is that of all fronts.

    Raises:
        RunnerError: the backend does not exist or cannot run here.
        WorkerStartError: the decoders cannot be started.
    """
    settings = sized(bundle, settings)
    pool = DecodePool(pool_settings(bundle.manifest, settings), metrics)
    decoders = asyncio.create_task(pool.start())  # while the model is loaded
    try:
        manifest, core = await (_open_core(bundle, settings, make) if shared is None else _reach_core(shared))
        metrics.slots(settings.videos_in_flight)
        metrics.queue_limit(settings.max_queue)
        engine = Engine(
            manifest,
            core,
            slots=settings.videos_in_flight,
            max_queue=settings.max_queue if shared is None else MAX_PLACES,
            observer=metrics,
            places=None if shared is None else shared.places,
            limits=QueueLimits(
                queue_seconds=settings.max_queue_seconds,
                uploads=settings.max_uploads,
                uploads_per_caller=settings.max_uploads_per_caller,
                reserve=RESERVED_SLOTS,
            ),
        )
        async with running(engine):
            await decoders
            metrics.model_loaded(manifest.name, manifest.version, core.runner.backend, core.runner.precision)
            quality = QualityController(settings.quality_target_seconds, len(manifest.operating_points) - 1)
            shadows = Shadows(settings.shadow_full_share, metrics, ShadowEvidence(manifest))
            try:
                yield Runtime(engine, pool, metrics, settings, quality, shadows)
            finally:
                await shadows.close()
                await pool.close()
    finally:
        decoders.cancel()
        await asyncio.gather(decoders, return_exceptions=True)
        await pool.close()


def sized(bundle: Bundle, settings: Settings) -> Settings:
    """The settings with a number of slots that suits the device, if none was set."""
    if settings.slots is not None or not takes_a_gpu(bundle, settings):
        return settings
    slots = max(settings.decode_workers, BATCHES_OF_VIDEOS * max_batch_of(bundle, settings))
    return settings.model_copy(update={"slots": slots})


def pool_settings(manifest: Manifest, settings: Settings) -> PoolSettings:
    """Settings of the decoders: how many videos may have frames that wait follows from ``frame_memory_bytes``."""
    crop, planned = manifest.geometry.crop, manifest.sampling.frames + (manifest.sampling.focus_frames or 0)
    # A clip model needs all of its frames at once.
    slots = planned if manifest.sampling.focus_frames is not None else min(MAX_DECODED_AHEAD, planned)
    affordable = settings.frame_memory_bytes // segment_bytes(slots, crop)
    return PoolSettings(
        workers=settings.decode_workers + RESERVED_SLOTS,
        crop=crop,
        memory_bytes=settings.decode_memory_bytes,
        slots=slots,
        videos=RESERVED_SLOTS
        + max(settings.decode_workers, min(settings.videos_in_flight + settings.decode_workers, affordable)),
    )


async def _open_core(bundle: Bundle, settings: Settings, make: MakeRunner) -> tuple[Manifest, Transport]:
    """The engine's core, in this process or in its own, and the manifest with the thresholds of its precision."""
    gpu, max_batch = takes_a_gpu(bundle, settings), max_batch_of(bundle, settings)
    slots = core_slots(settings, max_batch)
    if gpu if settings.engine_process is None else settings.engine_process:
        start = partial(open_core_process, partial(load_core, settings, make), slots=slots, max_batch=max_batch)
        core = await start()
        return core.manifest, SupervisedCore(core, start)
    runner = await asyncio.to_thread(make, bundle, settings)
    manifest = bundle.manifest.served_in(runner.precision)
    return manifest, InProcess(manifest, runner, slots=slots, max_batch=max_batch)


async def _reach_core(shared: SharedEngine) -> tuple[Manifest, Transport]:
    core = RemoteCore(shared.path, shared.front, shared.slots)
    await core.connect()
    return core.manifest, core


def core_slots(settings: Settings, max_batch: int) -> int:
    """Slots of a client in the core: a video that has left keeps its slot until its batch is done."""
    return settings.videos_in_flight + MAX_BATCHES_IN_FLIGHT * max_batch


def load_core(settings: Settings, make: MakeRunner) -> tuple[Manifest, Runner]:
    """The arguments of an engine core in a process of its own.

    Raises:
        BundleError: the bundle has changed since the service read it, and cannot be read any more.
        RunnerError: there is no such backend, or it cannot run here.
    """
    logs.configure()
    bundle = load_bundle(settings.bundle)
    runner = make(bundle, settings)
    return bundle.manifest.served_in(runner.precision), runner


def make_runner(bundle: Bundle, settings: Settings) -> Runner:
    """Open the runner of the configured backend, or of the fastest one that works here.

    Raises:
        RunnerError: the backend does not exist or cannot run here.
    """
    return open_runner(
        bundle,
        RunnerOptions(
            threads=settings.intra_op_threads or graph_threads(bundle.manifest, usable_cores()),
            batch_sizes=batch_sizes_up_to(max_batch_of(bundle, settings)),
            backend=settings.backend,
            precision=settings.precision,
            cache=settings.model_cache,
            look_ahead=settings.look_ahead,
        ),
    )


def takes_a_gpu(bundle: Bundle, settings: Settings) -> bool:
    """Whether the model will run on a GPU."""
    return takes_gpu(bundle.manifest, settings.backend, abilities_here())


def max_batch_of(bundle: Bundle, settings: Settings) -> int:
    """Rows in one batch at most."""
    return settings.max_batch or default_max_batch(gpu=takes_a_gpu(bundle, settings))

"""Opens the runtime: one runner, one engine and one pool of decoders, for HTTP and for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import Bundle, load_bundle
from adafocus.service.cpu import usable_cores
from adafocus.service.decode.pool import DecodePool, PoolSettings
from adafocus.service.engine.engine import Engine, running
from adafocus.service.engine.process import open_core_process
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
from adafocus.service.engine.transport import InProcess, Transport
from adafocus.service.settings import Settings
from adafocus.service.telemetry import logs
from adafocus.service.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Runtime:
    """The engine and the decoders that requests pass through, opened and closed together."""

    engine: Engine
    decoder: DecodePool
    metrics: Metrics
    settings: Settings

    @property
    def manifest(self) -> Manifest:
        """The manifest of the served bundle."""
        return self.engine.manifest


MIN_DECODED_AHEAD, MAX_DECODED_AHEAD = 3, 64
"""Frames that a decoder may have ready of a video that will probably need them."""

MakeRunner = Callable[[Bundle, Settings], Runner]


@asynccontextmanager
async def open_runtime(
    bundle: Bundle, settings: Settings, metrics: Metrics, make: MakeRunner
) -> AsyncIterator[Runtime]:
    """Load and warm the model, start the decoders, and close everything at the end of the block.

    Raises:
        RunnerError: the backend does not exist or cannot run here.
        WorkerStartError: the decoders cannot be started.
    """
    pool = DecodePool(
        PoolSettings(
            workers=settings.decode_workers,
            crop=bundle.manifest.geometry.crop,
            memory_bytes=settings.decode_memory_bytes,
            # Frames stay in their slots until the engine reads them: those of the steps that run together, and of the
            # batch after.
            slots=min(MAX_DECODED_AHEAD, max(MIN_DECODED_AHEAD, 2 * settings.look_ahead)),
        ),
        metrics,
    )
    decoders = asyncio.create_task(pool.start())  # while the model is loaded
    try:
        manifest, core = await _open_core(bundle, settings, make)
        metrics.slots(settings.videos_in_flight)
        metrics.queue_limit(settings.max_queue)
        engine = Engine(manifest, core, slots=settings.videos_in_flight, max_queue=settings.max_queue, observer=metrics)
        async with running(engine):
            await decoders
            metrics.model_loaded(manifest.name, manifest.version, core.runner.backend, core.runner.precision)
            try:
                yield Runtime(engine, pool, metrics, settings)
            finally:
                await pool.close()
    finally:
        decoders.cancel()
        await asyncio.gather(decoders, return_exceptions=True)
        await pool.close()


async def _open_core(bundle: Bundle, settings: Settings, make: MakeRunner) -> tuple[Manifest, Transport]:
    """The engine's core, in this process or in its own, and the manifest with the thresholds of its precision."""
    gpu, max_batch = _takes_gpu(bundle, settings), _max_batch(bundle, settings)
    # A video that has left keeps its place in the core until its batch is done.
    slots = settings.videos_in_flight + MAX_BATCHES_IN_FLIGHT * max_batch
    if gpu if settings.engine_process is None else settings.engine_process:
        core = await open_core_process(partial(load_core, settings, make), slots=slots, max_batch=max_batch)
        return core.manifest, core
    runner = await asyncio.to_thread(make, bundle, settings)
    manifest = bundle.manifest.served_in(runner.precision)
    return manifest, InProcess(manifest, runner, slots=slots, max_batch=max_batch)


def load_core(settings: Settings, make: MakeRunner) -> tuple[Manifest, Runner]:
    """What the engine runs in a process of its own.

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
            batch_sizes=batch_sizes_up_to(_max_batch(bundle, settings)),
            backend=settings.backend,
            precision=settings.precision,
            cache=settings.model_cache,
            look_ahead=settings.look_ahead,
        ),
    )


def _takes_gpu(bundle: Bundle, settings: Settings) -> bool:
    return takes_gpu(bundle.manifest, settings.backend, abilities_here())


def _max_batch(bundle: Bundle, settings: Settings) -> int:
    return settings.max_batch or default_max_batch(gpu=_takes_gpu(bundle, settings))

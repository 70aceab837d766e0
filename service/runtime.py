"""Opens the runtime: one runner, one engine and one pool of decoders, for HTTP and for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bundle.manifest import Manifest
from bundle.store import Bundle
from service.cpu import usable_cores
from service.decode.pool import DecodePool, PoolSettings
from service.engine.core import Engine, running
from service.engine.runners.base import Runner
from service.engine.runners.graphs import batch_sizes_up_to
from service.engine.runners.selection import RunnerOptions, graph_threads, open_runner
from service.settings import Settings
from service.telemetry.metrics import Metrics


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
        ),
        metrics,
    )
    decoders = asyncio.create_task(pool.start())  # while the model is loaded
    try:
        runner = await asyncio.to_thread(make, bundle, settings)
        manifest = bundle.manifest.served_in(runner.precision)
        # A video in a slot holds a decoder until it leaves, so there are as many slots as decoders.
        slots = settings.decode_workers
        metrics.slots(slots)
        metrics.queue_limit(settings.max_queue)
        engine = Engine(
            manifest,
            runner,
            slots=slots,
            max_batch=settings.max_batch,
            max_queue=settings.max_queue,
            observer=metrics,
        )
        async with running(engine):
            await decoders
            metrics.model_loaded(manifest.name, manifest.version, runner.backend, runner.precision)
            try:
                yield Runtime(engine, pool, metrics, settings)
            finally:
                await pool.close()
    finally:
        decoders.cancel()
        await asyncio.gather(decoders, return_exceptions=True)
        await pool.close()


def make_runner(bundle: Bundle, settings: Settings) -> Runner:
    """Open the runner of the configured backend, or of the fastest one that works here.

    Raises:
        RunnerError: the backend does not exist or cannot run here.
    """
    return open_runner(
        bundle,
        RunnerOptions(
            threads=settings.intra_op_threads or graph_threads(bundle.manifest, usable_cores()),
            batch_sizes=batch_sizes_up_to(settings.max_batch),
            backend=settings.backend,
            precision=settings.precision,
            cache=settings.model_cache,
            look_ahead=settings.look_ahead,
        ),
    )

"""Opens the core of an engine: in this process, in one of its own, or the one that several fronts share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import Bundle, BundleError, load_bundle
from adafocus.service.cpu import usable_cores
from adafocus.service.engine.process import open_core_process
from adafocus.service.engine.queue_limits import Places
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
from adafocus.service.engine.supervised import SupervisedCore
from adafocus.service.engine.transport import InProcess, Transport
from adafocus.service.settings import Settings
from adafocus.service.telemetry import logs

MakeRunner = Callable[[Bundle, Settings], Runner]


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


async def open_core(bundle: Bundle, settings: Settings, make: MakeRunner) -> tuple[Manifest, Transport]:
    """The engine's core, in this process or in its own, and the manifest with the thresholds of its precision."""
    gpu, max_batch = takes_a_gpu(bundle, settings), max_batch_of(bundle, settings)
    slots = core_slots(settings, max_batch)
    if gpu if settings.engine_process is None else settings.engine_process:
        start = partial(open_core_process, partial(load_core, settings, make, bundle), slots=slots, max_batch=max_batch)
        core = await start()
        return core.manifest, SupervisedCore(core, start)
    runner = await asyncio.to_thread(make, bundle, settings)
    manifest = bundle.manifest.served_in(runner.precision)
    return manifest, InProcess(manifest, runner, slots=slots, max_batch=max_batch)


async def reach_core(shared: SharedEngine) -> tuple[Manifest, Transport]:
    """The connection to the engine that all fronts share, and the manifest that it serves."""
    core = RemoteCore(shared.path, shared.front, shared.slots)
    await core.connect()
    return core.manifest, core


def core_slots(settings: Settings, max_batch: int) -> int:
    """Slots of a client in the core: a video that has left keeps its slot until its batch is done."""
    return settings.videos_in_flight + MAX_BATCHES_IN_FLIGHT * max_batch


def load_core(settings: Settings, make: MakeRunner, expected: Bundle) -> tuple[Manifest, Runner]:
    """The arguments of an engine core in a process of its own.

    Args:
        settings: of the service.
        make: opens the runner.
        expected: the bundle as the service has read it.

    Raises:
        BundleError: the bundle has changed since, or cannot be read any more.
        RunnerError: there is no such backend, or it cannot run here.
    """
    logs.configure()
    bundle = load_bundle(expected.path)
    if bundle.manifest.model_copy(update={"name": expected.manifest.name}) != expected.manifest:
        raise BundleError(f"{expected.path}: the bundle has changed since the service read it; load it again")
    runner = make(expected, settings)
    return expected.manifest.served_in(runner.precision), runner


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

"""What all models of a service share: admission, the decoders and their memory, the quality."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import Bundle, BundleError
from adafocus.service.cores import SharedEngine, max_batch_of, takes_a_gpu
from adafocus.service.decode.pool import DecodePool, PoolSettings
from adafocus.service.decode.worker.frame_writer import segment_bytes
from adafocus.service.engine.admission import Admission
from adafocus.service.engine.quality import QualityController
from adafocus.service.engine.queue_limits import QueueLimits
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import Metrics

BATCHES_OF_VIDEOS = 4
"""Videos in flight on a GPU, in full batches: two at the device, and as many that wait for a frame."""

MAX_PLACES = 1 << 20
"""More than any service has: where the places are those of several processes, none limits its own."""

MAX_DECODED_AHEAD = 64
"""Frames that a decoder may have ready of a video that will probably need them."""


RESERVED_SLOTS = 1
"""Slots and decoders that only a caller may use who has none while all others are taken: nobody can hold them all."""


@dataclass(frozen=True, slots=True)
class Resources:
    """What all models of a service share.

    Attributes:
        decoder: the pool of decoders.
        admission: who may come in, and who runs next, whichever model is asked for.
        metrics: of the service.
        settings: with the number of slots that suits the device.
        quality: how far operating points are lowered while the queue is long.
        decoders_started: is done when the decoders are ready.
    """

    decoder: DecodePool
    admission: Admission
    metrics: Metrics
    settings: Settings
    quality: QualityController
    decoders_started: asyncio.Task[None]


@asynccontextmanager
async def open_resources(
    bundles: Sequence[Bundle], settings: Settings, metrics: Metrics, shared: SharedEngine | None = None
) -> AsyncIterator[Resources]:
    """Begin to start the decoders, and open what else the models share; close all of it at the end of the block.

    Args:
        bundles: those that will be served; the frames of later ones must be no larger.
        settings: of the service.
        metrics: of the service.
        shared: the engine of several fronts, if this is one of them.
    """
    settings = sized(bundles, settings)
    manifests = [bundle.manifest for bundle in bundles]
    pool = DecodePool(pool_settings(manifests, settings), metrics)
    decoders = asyncio.create_task(pool.start())  # while the models are loaded
    metrics.slots(settings.videos_in_flight)
    metrics.queue_limit(settings.max_queue)
    admission = Admission(
        settings.videos_in_flight,
        settings.max_queue if shared is None else MAX_PLACES,
        metrics,
        time.monotonic,
        limits=QueueLimits(
            queue_seconds=settings.max_queue_seconds,
            uploads=settings.max_uploads,
            uploads_per_caller=settings.max_uploads_per_caller,
            reserve=RESERVED_SLOTS,
        ),
    )
    if shared is not None:
        admission.shared = shared.places
    cheaper = max(len(manifest.operating_points) for manifest in manifests) - 1
    quality = QualityController(settings.quality_target_seconds, cheaper)
    try:
        yield Resources(pool, admission, metrics, settings, quality, decoders)
    finally:
        decoders.cancel()
        await asyncio.gather(decoders, return_exceptions=True)
        await pool.close()


def sized(bundles: Sequence[Bundle], settings: Settings) -> Settings:
    """The settings with a number of slots that suits the device, if none was set."""
    batches = [max_batch_of(bundle, settings) for bundle in bundles if takes_a_gpu(bundle, settings)]
    if settings.slots is not None or not batches:
        return settings
    slots = max(settings.decode_workers, BATCHES_OF_VIDEOS * max(batches))
    return settings.model_copy(update={"slots": slots})


def pool_settings(manifests: Sequence[Manifest], settings: Settings) -> PoolSettings:
    """Settings of the decoders: how many videos may have frames that wait follows from ``frame_memory_bytes``.

    Memory for the frames of one video is enough for those of each model.
    """
    crop = max(manifest.geometry.crop for manifest in manifests)
    slots = max(map(frames_ahead, manifests))
    affordable = settings.frame_memory_bytes // segment_bytes(slots, crop)
    return PoolSettings(
        workers=settings.decode_workers + RESERVED_SLOTS,
        crop=crop,
        memory_bytes=settings.decode_memory_bytes,
        slots=slots,
        videos=RESERVED_SLOTS
        + max(settings.decode_workers, min(settings.videos_in_flight + settings.decode_workers, affordable)),
    )


def frames_ahead(manifest: Manifest) -> int:
    """Frames of one video that may wait for the model."""
    planned = manifest.sampling.frames + (manifest.sampling.focus_frames or 0)
    # A clip model needs all of its frames at once.
    return planned if manifest.sampling.focus_frames is not None else min(MAX_DECODED_AHEAD, planned)


def check_frames_fit(manifest: Manifest, pool: PoolSettings) -> None:
    """Check that the decoders' memory suffices for a model's frames.

    Raises:
        BundleError: it does not.
    """
    if manifest.geometry.crop > pool.crop:
        raise BundleError(
            f"{manifest.name}: its frames have {manifest.geometry.crop} pixels a side; the decoders of this service "
            f"were started for at most {pool.crop}; restart the service to load it"
        )
    if manifest.kind == "clip" and frames_ahead(manifest) > pool.slots:
        raise BundleError(
            f"{manifest.name}: takes {frames_ahead(manifest)} frames at once; the decoders of this service were "
            f"started for at most {pool.slots}; restart the service to load it"
        )

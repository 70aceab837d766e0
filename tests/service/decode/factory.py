"""Small videos, jobs and pools for the tests of `service.decode`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from adafocus.bundle.manifest import FrameGeometry, Sampling
from adafocus.service.decode.pool import DecodeJob, DecodePool, DecodeSession, PoolSettings, WorkerTimeouts
from adafocus.service.decode.pool_settings import RestartReason, RetryReason
from adafocus.service.decode.upload import Spool
from adafocus.service.decode.worker.control import ClosedError
from adafocus.video.decoder import Frame
from adafocus.video.limits import MediaLimits
from adafocus.video.sampler import visiting_order
from tests.video.clips import GEOMETRY, make_clip

FRAMES = 16
MEMORY_BYTES = 256 << 20


@cache
def clip(frames: int = 40, *, width: int = 64, height: int = 64, **options: str) -> bytes:
    """A clip of numbered pictures, key frames every ten."""
    return make_clip(frames, size=(width, height), **{"g": "10", "bf": "0", "preset": "ultrafast", **options})


def job(
    frames: int = FRAMES,
    *,
    order: Iterable[int] | None = None,
    limits: MediaLimits | None = None,
    resize: int = GEOMETRY.resize,
    crop: int = GEOMETRY.crop,
    slots: int | None = None,
) -> DecodeJob:
    """Sixteen frames, coarse to fine, unless said otherwise."""
    visited = visiting_order(frames, "coarse_to_fine") if order is None else tuple(order)
    geometry = FrameGeometry(resize=max(resize, crop), crop=crop)
    return DecodeJob(Sampling(frames=frames, order=visited), geometry, limits or MediaLimits(), slots)


def filled(data: bytes) -> Spool:
    """A complete spool."""
    spool = Spool()
    spool.write(data)
    spool.finish()
    return spool


@dataclass
class Uploading:
    """An upload of which a little more arrives whenever the reader waits for it."""

    spool: Spool
    to_come: list[bytes]
    size: int = 0
    complete: bool = False
    expected: int | None = None
    closing: bool = False
    needs: list[int | None] = field(default_factory=list)

    def wait_for(self, size: int | None) -> None:
        self.needs.append(size)
        while self.to_come and (size is None or self.size < size):
            self.spool.write(self.to_come.pop(0))
            self.size = self.spool.size
        self.complete = not self.to_come

    def check(self) -> None:
        if self.closing:
            raise ClosedError


@dataclass
class Watcher:
    """Remembers what a pool reports."""

    workers: int = 0
    restarts: list[RestartReason] = field(default_factory=list)
    retries: list[RetryReason] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def decode_workers(self, count: int) -> None:
        """Workers alive now."""
        self.workers = count
        self.changed.set()

    def decode_worker_restarted(self, reason: RestartReason) -> None:
        """A worker was replaced."""
        self.restarts.append(reason)

    def video_retried(self, reason: RetryReason) -> None:
        """A video is decoded again."""
        self.retries.append(reason)

    async def until(self, workers: int) -> None:
        """Wait until so many workers are alive."""
        while self.workers != workers:
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def pool_of(
    workers: int = 1,
    *,
    watcher: Watcher | None = None,
    memory_bytes: int = MEMORY_BYTES,
    patience: WorkerTimeouts | None = None,
    slots: int = 2,
) -> AsyncIterator[DecodePool]:
    """A running pool."""
    settings = PoolSettings(
        workers=workers,
        crop=GEOMETRY.crop,
        memory_bytes=memory_bytes,
        patience=patience or WorkerTimeouts(),
        slots=slots,
    )
    async with DecodePool(settings, watcher) as pool:
        yield pool


async def rest(session: DecodeSession) -> list[Frame]:
    """The frames that are left in a session."""
    frames = []
    while (frame := await session.next()) is not None:
        frames.append(frame)
    return frames


async def decode(pool: DecodePool, data: bytes, wanted: DecodeJob | None = None) -> list[Frame]:
    """All frames of one request."""
    with filled(data) as spool:
        async with pool.open(spool, wanted or job()) as session:
            return await rest(session)


async def turns_until(there: Callable[[], bool]) -> None:
    """Let the event loop turn until something is so."""
    async with asyncio.timeout(30):
        while not there():
            await asyncio.sleep(0)


def pixels_of(frames: Iterable[Frame]) -> NDArray[np.uint8]:
    """The frames' pixels, stacked."""
    return np.stack([frame.pixels for frame in frames])

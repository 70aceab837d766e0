"""A video that is opened while it still arrives."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from service.decode.pool import DecodePool, Patience
from service.decode.upload import Spool
from service.errors import TooLarge
from tests.service.decode.factory import (
    Watcher,
    clip,
    decode,
    job,
    pixels_of,
    pool_of,
    rest,
)
from tests.video.clips import read_frames
from video.sampler import wanted_frames

WANTED = wanted_frames(40, frames=16, order=job().sampling.order)


async def frames_of(pool: DecodePool, spool: Spool) -> int | None:
    async with pool.open(spool, job()) as session:
        return session.info.frames


class TestGrowingUpload:
    @pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
    @pytest.mark.parametrize("announced", [True, False])
    async def test_a_video_may_be_opened_before_it_has_arrived(self, container: str, announced: bool) -> None:
        data = clip(40, container=container)
        expected, _, _ = read_frames(data, WANTED)
        async with pool_of() as pool:
            with Spool(expected_bytes=len(data) if announced else None) as spool:

                async def consume() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
                    async with pool.open(spool, job()) as session:
                        return pixels_of(await rest(session))

                task = asyncio.create_task(consume())
                for start in range(0, len(data), 1000):
                    spool.write(data[start : start + 1000])
                    await asyncio.sleep(0)
                spool.finish()
                assert np.array_equal(await task, pixels_of(expected))

    async def test_an_upload_that_fails_midway_ends_the_request_with_its_error(self) -> None:
        data = clip()
        async with pool_of() as pool:
            pids = pool.pids
            with Spool() as spool:
                spool.write(data[: len(data) // 2])
                opening = asyncio.create_task(frames_of(pool, spool))
                await asyncio.sleep(0)
                spool.fail(TooLarge("too large"))
                with pytest.raises(TooLarge):
                    await opening
            assert len(await decode(pool, data)) == 16
            assert pool.pids == pids

    async def test_an_upload_that_stands_still_is_not_the_workers_fault(self) -> None:
        watcher = Watcher()
        data = clip()
        async with pool_of(watcher=watcher, patience=Patience(stall_seconds=0.05)) as pool:
            with Spool() as spool:
                spool.write(data[:100])
                opening = asyncio.create_task(frames_of(pool, spool))
                await asyncio.wait({opening}, timeout=0.5)
                spool.write(data[100:])
                spool.finish()
                assert await opening == 40
        assert not watcher.restarts

    @pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
    async def test_who_leaves_while_the_worker_waits_for_bytes_leaves_no_trace(self, container: str) -> None:
        data = clip(40, container=container)
        async with pool_of() as pool:
            pids = pool.pids
            for size in range(1, len(data), len(data) // 6):
                with Spool() as spool:
                    spool.write(data[:size])
                    opening = asyncio.create_task(frames_of(pool, spool))
                    await asyncio.wait({opening}, timeout=0.05)
                    opening.cancel()
                    await asyncio.gather(opening, return_exceptions=True)
                assert len(await decode(pool, data)) == 16
            assert pool.pids == pids

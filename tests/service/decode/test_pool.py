"""The pool with real workers: a failure affects one request and no other."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from adafocus.service.decode.pool import DecodePool, PoolSettings, WorkerTimeouts
from adafocus.service.decode.upload import Spool
from adafocus.video.sampler import wanted_frames
from tests.service.decode.factory import (
    clip,
    decode,
    filled,
    job,
    pixels_of,
    pool_of,
    rest,
    turns_until,
)
from tests.video.clips import GEOMETRY, number_of, read_frames

ORDER = job().sampling.order
WANTED = wanted_frames(40, frames=16, order=ORDER)


async def test_frames_are_those_of_decoding_in_this_process() -> None:
    expected, stream, video = read_frames(clip(), WANTED)
    async with pool_of() as pool:
        with filled(clip()) as spool:
            async with pool.open(spool, job()) as session:
                assert session.info == video.info
                assert session.planned == 16
                frames = await rest(session)
        assert 0 < session.cost.frames <= stream.frames_decoded  # the first one is not on the way to the others
        assert session.cost.seconds > 0
    assert [(f.position, f.index, f.time_s) for f in frames] == [(f.position, f.index, f.time_s) for f in expected]
    assert np.array_equal(pixels_of(frames), pixels_of(expected))
    assert frames[0].pixels.flags.c_contiguous
    assert [number_of(frame.pixels) for frame in frames] == [frame.index for frame in frames]


async def test_two_requests_run_at_once_and_a_third_waits_its_turn() -> None:
    async with pool_of(2) as pool:
        with filled(clip()) as one, filled(clip(25)) as two, filled(clip(9)) as three:
            async with pool.open(one, job()) as first, pool.open(two, job()) as second:
                third = asyncio.create_task(anext_frame(pool, three))
                await turns_until(lambda: pool.waiting == 1)
                assert first.info.frames == 40
                assert second.info.frames == 25
                assert not third.done()
            assert await third == 9
        assert pool.waiting == 0


async def anext_frame(pool: DecodePool, spool: Spool) -> int | None:
    async with pool.open(spool, job()) as session:
        return session.info.frames


async def test_a_worker_that_has_said_all_serves_the_next_before_the_session_is_closed() -> None:
    async with pool_of(slots=16) as pool:
        with filled(clip()) as spool:
            async with pool.open(spool, job()) as session:
                assert len(await decode(pool, clip(20))) == 16
                assert len(await rest(session)) == 16


async def test_a_job_may_take_fewer_slots_than_its_pool_has() -> None:
    data = clip(200, g="600")
    async with pool_of(slots=8) as pool:
        decoded = []
        for slots in (None, 1):
            with filled(data) as spool:
                async with pool.open(spool, job(order=range(16), slots=slots)) as session:
                    assert await session.next() is not None
                    # Without a slot it neither decodes nor says anything; with slots left, it says so by itself.
                    await turns_until(lambda s=session: s._delivery.is_full)  # type: ignore[misc]
                decoded.append(session.cost.frames)
        assert decoded[0] > decoded[1] + 50


async def test_closing_early_frees_the_worker_and_decodes_no_more() -> None:
    data = clip(200)
    async with pool_of() as pool:
        pids = pool.pids
        for _ in range(3):
            with filled(data) as spool:
                async with pool.open(spool, job(order=range(16))) as session:
                    assert await session.next() is not None
                assert 0 < session.cost.frames < 100
                assert await session.next() is None
        assert pool.pids == pids


async def test_a_request_that_is_closed_during_a_long_scan_stops_within_it() -> None:
    one_key_frame = clip(250, g="250", keyint_min="250", width=320, height=240)
    async with pool_of(patience=WorkerTimeouts(close_seconds=60)) as pool:
        pids = pool.pids
        with filled(one_key_frame) as spool:
            async with pool.open(spool, job(order=reversed(range(16)))) as session:
                pass
            assert session.cost.frames < 250
        assert len(await decode(pool, clip())) == 16
        assert pool.pids == pids


async def test_a_consumer_that_is_cancelled_leaves_the_worker_to_the_next() -> None:
    async with pool_of() as pool:
        pids = pool.pids
        started = asyncio.Event()

        async def consume() -> None:
            with filled(clip()) as spool:
                async with pool.open(spool, job()) as session:
                    await session.next()
                    started.set()
                    await asyncio.Event().wait()

        task = asyncio.create_task(consume())
        await started.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
        assert len(await decode(pool, clip())) == 16
        assert pool.pids == pids


async def test_who_leaves_the_queue_is_forgotten() -> None:
    async with pool_of() as pool:
        with filled(clip()) as spool:
            async with pool.open(spool, job()):
                waiting = [asyncio.create_task(decode(pool, clip())) for _ in range(3)]
                await turns_until(lambda: pool.waiting == 3)
                waiting[1].cancel()
                await turns_until(lambda: pool.waiting == 2)
            assert len(await waiting[0]) == len(await waiting[2]) == 16
        assert waiting[1].cancelled()


async def test_a_job_larger_than_the_pool_is_a_mistake_of_ours() -> None:
    async with pool_of() as pool:
        with filled(clip()) as spool, pytest.raises(ValueError, match="crop"):
            async with pool.open(spool, job(crop=GEOMETRY.crop + 1)):
                pass


async def test_a_spool_that_is_closed_does_not_cost_the_worker() -> None:
    async with pool_of() as pool:
        spool = filled(clip())
        spool.close()
        with pytest.raises(ValueError):
            async with pool.open(spool, job()):
                pass
        assert len(await decode(pool, clip())) == 16


@pytest.mark.parametrize(("name", "value"), [("workers", 0), ("crop", 0), ("slots", 0), ("memory_bytes", 100)])
def test_settings_out_of_range_are_named(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=name):
        PoolSettings(**{"workers": 1, "crop": 56, name: value})


async def test_frames_move_to_key_frames_and_are_named_as_the_frames_seen() -> None:
    wanted = job(4)
    snapping = replace(wanted, sampling=wanted.sampling.model_copy(update={"snap": "keyframe"}))
    async with pool_of() as pool:
        plain, moved = [await decode(pool, clip(80), each) for each in (wanted, snapping)]
    assert sorted(frame.index for frame in plain) == [10, 30, 50, 70], "clips have a key frame every ten"
    assert sorted(frame.index for frame in moved) == [10, 30, 50, 70]
    async with pool_of() as pool:
        plain, moved = [await decode(pool, clip(72), each) for each in (wanted, snapping)]
    assert sorted(frame.index for frame in plain) == [9, 27, 45, 63]
    assert sorted(frame.index for frame in moved) == [10, 30, 40, 60]
    assert [number_of(frame.pixels) for frame in moved] == [frame.index for frame in moved]


async def test_a_worker_that_has_used_its_time_stops_after_the_first_frame() -> None:
    capped = replace(job(slots=1), max_cpu_seconds=1e-6)
    async with pool_of() as pool:
        with filled(clip(80)) as spool:
            async with pool.open(spool, capped) as session:
                assert len(await rest(session)) == 1
                assert session.capped
        with filled(clip(80)) as spool:
            async with pool.open(spool, replace(capped, max_cpu_seconds=3600.0)) as session:
                assert len(await rest(session)) == 16
                assert not session.capped
                assert session.cost.cpu_seconds >= 0  # a hypervisor that stole time may leave nothing of a moment's

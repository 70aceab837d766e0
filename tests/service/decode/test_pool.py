"""The pool with real workers: what happens to one request, and that others do not notice."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import select
import signal
from contextlib import suppress

import numpy as np
import psutil
import pytest

from service.decode.pool import DecodePool, Patience, PoolSettings, WorkerStartError
from service.decode.upload import Spool
from service.errors import Draining, Internal, NoVideoStream, Problem, TooLarge, TooLong, Undecodable, UnsupportedMedia
from tests.service.decode.factory import (
    Watcher,
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
from video.limits import MediaLimits
from video.sampler import wanted_frames

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
        assert session.frames_decoded == stream.frames_decoded
        assert session.decode_seconds > 0
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


async def test_closing_early_frees_the_worker_and_decodes_no_more() -> None:
    data = clip(200)
    async with pool_of() as pool:
        pids = pool.pids
        for _ in range(3):
            with filled(data) as spool:
                async with pool.open(spool, job(order=range(16))) as session:
                    assert await session.next() is not None
                assert 0 < session.frames_decoded < 100
                assert await session.next() is None
        assert pool.pids == pids


async def test_a_request_that_is_closed_during_a_long_scan_stops_within_it() -> None:
    one_key_frame = clip(250, g="250", keyint_min="250", width=320, height=240)
    async with pool_of(patience=Patience(close_seconds=60)) as pool:
        pids = pool.pids
        with filled(one_key_frame) as spool:
            async with pool.open(spool, job(order=reversed(range(16)))) as session:
                pass
            assert session.frames_decoded < 250
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


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"x", UnsupportedMedia),
        (random.Random(1).randbytes(65536), UnsupportedMedia),
        (b"ffconcat version 1.0\nfile other.ts\n", UnsupportedMedia),
        (b"#EXTM3U\n#EXTINF:1,\nsecret.ts\n", UnsupportedMedia),
        (b"\x00\x00\x00\x08ftyp" + b"\x00" * 50, Problem),
        (b"\x1a\x45\xdf\xa3" + random.Random(2).randbytes(9000), Problem),
    ],
)
async def test_bytes_that_are_no_video_are_refused_and_the_worker_stays(data: bytes, kind: type[Problem]) -> None:
    async with pool_of() as pool:
        pids = pool.pids
        for _ in range(3):
            with pytest.raises(kind) as caught:
                await decode(pool, data)
            assert not isinstance(caught.value, Internal)
        assert len(await decode(pool, clip())) == 16
        assert pool.pids == pids


async def test_every_cut_of_a_file_is_answered_or_refused() -> None:
    data = clip(12)
    async with pool_of() as pool:
        pids = pool.pids
        for end in range(0, len(data), max(1, len(data) // 25)):
            with suppress(Undecodable, UnsupportedMedia, NoVideoStream):
                assert len(await decode(pool, data[:end])) <= 16
        assert pool.pids == pids


async def test_limits_are_those_of_the_job() -> None:
    async with pool_of() as pool:
        with pytest.raises(TooLong, match="1 s"):
            await decode(pool, clip(), job(limits=MediaLimits(max_seconds=1)))
        with pytest.raises(UnsupportedMedia):
            await decode(pool, clip(), job(limits=MediaLimits(codecs=("vp9",))))


async def killed_mid_request(by: signal.Signals, patience: Patience | None = None) -> tuple[Problem, Watcher]:
    """Two requests run, one worker gets the signal: the problem of its request, once all else has been seen right."""
    watcher = Watcher()
    async with pool_of(2, watcher=watcher, patience=patience) as pool:
        with filled(clip()) as one, filled(clip()) as two:
            async with pool.open(one, job()) as first, pool.open(two, job()) as second:
                await first.next()
                await second.next()
                victim = pool.pids[0]
                os.kill(victim, by)
                results = await asyncio.gather(rest(first), rest(second), return_exceptions=True)
        frames = next(result for result in results if isinstance(result, list))
        assert len(frames) == 15
        problem = next(result for result in results if isinstance(result, Problem))
        await asyncio.wait_for(watcher.until(2), 60)
        assert victim not in pool.pids
        assert not psutil.pid_exists(victim), "it was not reaped"
        assert [len(got) for got in await asyncio.gather(*[decode(pool, clip()) for _ in range(4)])] == [16] * 4
    assert watcher.workers == 0
    return problem, watcher


async def test_a_worker_killed_from_outside_costs_its_own_request_only() -> None:
    problem, watcher = await killed_mid_request(signal.SIGKILL)
    assert isinstance(problem, Internal)
    assert watcher.restarts == ["crashed"]


async def test_a_worker_that_crashes_by_itself_makes_the_video_undecodable() -> None:
    problem, watcher = await killed_mid_request(signal.SIGSEGV)
    assert isinstance(problem, Undecodable)
    assert watcher.restarts == ["crashed"]


async def test_a_worker_that_hangs_is_stopped() -> None:
    problem, watcher = await killed_mid_request(signal.SIGSTOP, Patience(stall_seconds=0.2))
    assert isinstance(problem, Undecodable)
    assert watcher.restarts == ["timeout"]


async def test_a_worker_that_dies_idle_costs_nobody() -> None:
    watcher = Watcher()
    async with pool_of(2, watcher=watcher) as pool:
        end_of_process = os.pidfd_open(pool.pids[0])
        os.kill(pool.pids[0], signal.SIGKILL)
        select.select([end_of_process], [], [], 30)  # it is dead, and the pool has had no turn to see it
        os.close(end_of_process)
        results = await asyncio.gather(*[decode(pool, clip()) for _ in range(4)])
        assert [len(frames) for frames in results] == [16] * 4
        await asyncio.wait_for(watcher.until(2), 60)
    assert watcher.restarts == ["crashed"]


async def test_a_video_that_takes_too_much_processor_time_is_undecodable() -> None:
    watcher = Watcher()
    async with pool_of(watcher=watcher, patience=Patience(cpu_seconds=1e-6)) as pool:
        with pytest.raises(Undecodable, match="processor time"):
            await decode(pool, clip())
    assert watcher.restarts == ["timeout"]


async def test_pictures_that_take_too_much_memory_are_undecodable() -> None:
    async with pool_of(memory_bytes=8 << 20) as pool:
        with pytest.raises(Undecodable):
            await decode(pool, clip(2, width=4096, height=2304))
        assert len(await decode(pool, clip())) == 16


async def test_a_worker_that_has_met_its_memory_limit_is_replaced() -> None:
    watcher = Watcher()
    async with pool_of(watcher=watcher, memory_bytes=24 << 20) as pool:
        (pid,) = pool.pids
        with pytest.raises(Undecodable, match="decode_memory_bytes"):
            await decode(pool, clip(), job(resize=4096))
        assert len(await asyncio.wait_for(decode(pool, clip()), 60)) == 16
        assert pool.pids != (pid,)
    assert watcher.restarts == ["memory"]


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
                opening = asyncio.create_task(anext_frame(pool, spool))
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
                opening = asyncio.create_task(anext_frame(pool, spool))
                await asyncio.wait({opening}, timeout=0.5)
                spool.write(data[100:])
                spool.finish()
                assert await opening == 40
        assert not watcher.restarts


class TestLifetime:
    async def test_closing_ends_everything_and_leaves_nothing(self) -> None:
        before = psutil.Process().num_fds()
        pool = DecodePool(PoolSettings(workers=2, crop=GEOMETRY.crop))
        await pool.start()
        pids = pool.pids
        assert all(psutil.pid_exists(pid) for pid in pids)
        with filled(clip()) as spool:
            async with pool.open(spool, job()) as session, pool.open(spool, job()):
                await session.next()
                waiting = asyncio.create_task(decode(pool, clip()))
                await turns_until(lambda: pool.waiting == 1)
                await pool.close()
                with pytest.raises(Draining):
                    await waiting
                with pytest.raises(Draining):
                    await rest(session)
        with pytest.raises(Draining):
            await decode(pool, clip())
        await pool.close()
        assert not any(psutil.pid_exists(pid) for pid in pids)
        assert psutil.Process().num_fds() == before

    async def test_closing_while_a_worker_is_being_replaced_leaves_nothing(self) -> None:
        watcher = Watcher()
        children = set(psutil.Process().children(recursive=True))
        async with pool_of(2, watcher=watcher) as pool:
            for pid in pool.pids:
                os.kill(pid, signal.SIGKILL)
            await turns_until(lambda: len(watcher.restarts) == 2)
        assert set(psutil.Process().children(recursive=True)) <= children

    async def test_workers_that_cannot_start_are_an_error_and_leave_nothing(self) -> None:
        children = set(psutil.Process().children(recursive=True))
        pool = DecodePool(PoolSettings(workers=2, crop=GEOMETRY.crop, start_seconds=0.001))
        with pytest.raises(WorkerStartError, match="not ready"):
            await pool.start()
        assert set(psutil.Process().children(recursive=True)) <= children

    async def test_the_sandbox_is_reported_once(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO, logger="adafocus.decode"):
            async with pool_of(2) as pool:
                assert pool.sandbox is not None
                told = [record for record in caplog.records if "sandbox" in record.message]
                assert len(told) == 1
                assert told[0].levelno == (logging.WARNING if pool.sandbox.missing else logging.INFO)

    async def test_memory_stays_flat_over_many_requests(self) -> None:
        data = clip(12)
        async with pool_of() as pool:
            (pid,) = pool.pids
            worker = psutil.Process(pid)
            resident = []
            for _ in range(4):
                for _ in range(50):
                    await decode(pool, data)
                resident.append(worker.memory_info().rss)
            assert pool.pids == (pid,)
            assert worker.num_fds() <= 10
        assert resident[-1] < 1.1 * resident[0]


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

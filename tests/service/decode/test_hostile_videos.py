"""Hostile and broken videos, and workers that crash or hang on them: only the video's own request fails."""

from __future__ import annotations

import asyncio
import gc
import io
import os
import random
import select
import signal
import zlib
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from adafocus.service.decode import pool as pool_module
from adafocus.service.decode.frames_in_place import FramesInPlace
from adafocus.service.decode.pool import DecodePool, DecodeSession, WorkerTimeouts
from adafocus.service.decode.worker_losses import MAX_KILLED_WORKERS, MAX_WORKERS
from adafocus.service.errors import Internal, NoVideoStream, Problem, TooLong, Undecodable, UnsupportedMedia
from adafocus.video.decoder import Frame, FrameStream
from adafocus.video.errors import VideoError
from adafocus.video.limits import MediaLimits
from adafocus.video.probe import open_video
from adafocus.video.sampler import wanted_frames
from tests.service.decode.factory import (
    Watcher,
    clip,
    decode,
    filled,
    job,
    pool_of,
    rest,
    turns_until,
)
from tests.video.clips import GEOMETRY

ORDER = job().sampling.order


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


def described_frames(frames: list[Frame]) -> list[tuple[int, int, int]]:
    return [(frame.position, frame.index, zlib.crc32(frame.pixels)) for frame in frames]


async def killed_mid_request(by: signal.Signals, times: int) -> tuple[list[Frame] | Problem, Watcher]:
    """Two requests run, and the workers of one get the signal: what becomes of that request."""
    watcher = Watcher()
    async with pool_of(2, watcher=watcher) as pool:
        expected = described_frames(await decode(pool, clip()))
        with filled(clip()) as one, filled(clip()) as two:
            async with pool.open(one, job()) as first, pool.open(two, job()) as second:
                taken = await first.next()
                victims = [await kill_worker_of(pool, first, by) for _ in range(times)]
                left, other = await asyncio.gather(rest(first), rest(second), return_exceptions=True)
        assert taken is not None
        assert isinstance(other, list)
        assert described_frames(other) == expected
        if isinstance(left, list):
            assert described_frames([taken, *left]) == expected
        await asyncio.wait_for(watcher.until(2), 60)
        assert not any(psutil.pid_exists(pid) for pid in victims), "a worker was not reaped"
        assert [len(got) for got in await asyncio.gather(*[decode(pool, clip()) for _ in range(4)])] == [16] * 4
        assert pool.segments_lent == 0
    assert watcher.workers == 0
    assert isinstance(left, list | Problem)
    return left, watcher


async def kill_worker_of(pool: DecodePool, session: DecodeSession, by: signal.Signals) -> int:
    """Send a signal to the worker that decodes a video, once there is one."""
    await turns_until(lambda: session in pool._fleet.workers.values())
    (pid,) = (worker.pid for worker, at_work in pool._fleet.workers.items() if at_work is session)
    os.kill(pid, by)
    await turns_until(lambda: pid not in pool.pids)
    return pid


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGSEGV])
async def test_a_worker_that_dies_costs_no_request(by: signal.Signals) -> None:
    frames, watcher = await killed_mid_request(by, 1)
    assert isinstance(frames, list)
    assert watcher.restarts == ["crashed"]
    assert watcher.retries == ["decoder_crashed"]


@pytest.mark.parametrize(
    ("by", "times", "kind"),
    [(signal.SIGKILL, MAX_KILLED_WORKERS, Internal), (signal.SIGSEGV, MAX_WORKERS, Undecodable)],
)
async def test_a_video_that_ends_all_its_workers_fails(
    by: signal.Signals, times: int, kind: type[Problem], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "_LONGEST_RETRY_SECONDS", 0.0)
    problem, watcher = await killed_mid_request(by, times)
    assert isinstance(problem, kind)
    assert watcher.restarts == ["crashed"] * times
    assert watcher.retries == ["decoder_crashed"] * (times - 1)


async def test_memory_of_a_video_goes_without_the_garbage_collector() -> None:
    async with pool_of() as pool:
        gc.collect()
        gc.disable()
        try:
            for number in range(4):
                await decode_in_place(pool, caller=str(number))
            # `isinstance` would look at objects of other libraries that warn when they are looked at.
            assert not [known for known in gc.get_objects() if type(known) is DecodeSession]
        finally:
            gc.enable()


async def decode_in_place(pool: DecodePool, caller: str) -> None:
    """Decode a clip as the engine does, which reads frames where they lie."""
    async with pool.open(filled(clip()), job(), caller=caller) as session:
        frames = FramesInPlace(session)
        while (frame := await frames.next()) is not None:
            frame.release()


async def test_a_worker_that_hangs_costs_no_request() -> None:
    watcher = Watcher()
    async with pool_of(2, watcher=watcher, patience=WorkerTimeouts(stall_seconds=0.2)) as pool:
        os.kill(pool.pids[0], signal.SIGSTOP)
        results = await asyncio.gather(*[decode(pool, clip()) for _ in range(2)])
    assert [len(frames) for frames in results] == [16] * 2
    assert "timeout" in watcher.restarts
    assert "decoder_timeout" in watcher.retries


async def test_a_video_on_which_two_workers_hang_fails() -> None:
    async with pool_of(2, patience=WorkerTimeouts(stall_seconds=0.2)) as pool:
        for pid in pool.pids:
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(Undecodable, match="no progress"):
            await decode(pool, clip())


async def test_killing_the_worker_again_and_again_while_videos_wait_loses_none() -> None:
    watcher = Watcher()
    async with pool_of(1, watcher=watcher) as pool:
        decoding = [asyncio.create_task(decode(pool, clip())) for _ in range(12)]
        for _ in range(3):
            await turns_until(lambda: any(pool._fleet.workers.values()))
            (session,) = pool._fleet.workers.values()
            assert session is not None
            os.kill(pool.pids[0], signal.SIGKILL)
            await turns_until(lambda session=session: session.ended)  # type: ignore[misc]
        results = await asyncio.gather(*decoding)
    assert [len(frames) for frames in results] == [16] * 12
    assert watcher.restarts == ["crashed"] * 3


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
    assert watcher.retries == []


async def test_a_video_that_takes_too_much_processor_time_is_undecodable() -> None:
    watcher = Watcher()
    async with pool_of(watcher=watcher, patience=WorkerTimeouts(cpu_seconds=1e-6)) as pool:
        with pytest.raises(Undecodable, match="processor time"):
            await decode(pool, clip())
    assert watcher.restarts == ["timeout"]


async def test_pictures_that_take_too_much_memory_are_undecodable() -> None:
    async with pool_of(memory_bytes=8 << 20) as pool:
        with pytest.raises(Undecodable):
            await decode(pool, clip(2, width=4096, height=2304))
        assert len(await decode(pool, clip())) == 16


async def test_a_worker_that_has_met_its_memory_limit_and_has_its_memory_back_stays() -> None:
    """To replace it would let a few kilobytes cost a new process: the size of a picture is only claimed."""
    watcher = Watcher()
    async with pool_of(watcher=watcher, memory_bytes=24 << 20) as pool:
        (pid,) = pool.pids
        with pytest.raises(Undecodable, match="decode_memory_bytes"):
            await decode(pool, clip(), job(resize=4096))
        assert len(await asyncio.wait_for(decode(pool, clip()), 60)) == 16
        assert pool.pids == (pid,)
    assert watcher.restarts == []


async def test_the_sandbox_changes_no_outcome_and_no_pixel_of_the_corpus(shared_dir: Path) -> None:
    async with pool_of(memory_bytes=1 << 30) as pool:
        pids = pool.pids
        for path in sorted((shared_dir / "videos").iterdir()):
            data = path.read_bytes()
            try:
                frames: list[Frame] | str = await decode(pool, data)
            except Problem as problem:
                frames = problem.code
            assert described(frames) == described(decoded_here(data)), path.name
        assert pool.pids == pids


def decoded_here(data: bytes) -> list[Frame] | str:
    """What decoding in this process gives: frames, or the error's code."""
    try:
        with open_video(io.BytesIO(data), MediaLimits()) as video:
            stream = FrameStream(video, wanted_frames(video.index.frames, frames=16, order=ORDER), GEOMETRY)
            return list(iter(stream.next, None))
    except VideoError as error:
        return error.code


def described(frames: list[Frame] | str) -> object:
    """Something to compare."""
    if isinstance(frames, str):
        return frames
    return [(frame.position, frame.index, frame.time_s, zlib.crc32(frame.pixels)) for frame in frames]

"""A video that is opened while it still arrives."""

from __future__ import annotations

import asyncio
import io
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from adafocus.service.decode.pool import DecodePool, WorkerTimeouts
from adafocus.service.decode.upload import Spool
from adafocus.service.decode.worker.spool_reader import SpoolReader
from adafocus.service.errors import TooLarge
from adafocus.video.decoder import FrameStream
from adafocus.video.errors import VideoError
from adafocus.video.probe import open_video
from adafocus.video.sampler import wanted_frames
from adafocus.video.source import Reader
from tests.service.decode.factory import (
    Uploading,
    Watcher,
    clip,
    decode,
    job,
    pixels_of,
    pool_of,
    rest,
)
from tests.video.clips import GEOMETRY, moov_first, read_frames

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
        async with pool_of(watcher=watcher, patience=WorkerTimeouts(stall_seconds=0.05)) as pool:
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


class TestAnnouncedFrames:
    @pytest.mark.parametrize("container", ["mp4", "mov"])
    async def test_the_first_frame_does_not_wait_for_the_last_bytes(self, container: str) -> None:
        data = moov_first(clip(200, container=container, g="600", sc_threshold="0"))
        wanted = wanted_frames(200, frames=16, order=job().sampling.order)
        expected, _, _ = read_frames(data, wanted)
        async with pool_of() as pool:
            with Spool(expected_bytes=len(data)) as spool:
                spool.write(data[: len(data) * 9 // 10])
                async with asyncio.timeout(30), pool.open(spool, job()) as session:
                    first = await session.next()
                    assert first is not None
                    assert first.index == wanted[0]
                    assert np.array_equal(first.pixels, expected[0].pixels)
                    spool.write(data[len(data) * 9 // 10 :])
                    spool.finish()
                    assert np.array_equal(pixels_of(await rest(session)), pixels_of(expected[1:]))
                assert session.cost.frames <= 200

    @pytest.mark.parametrize("announced", [True, False])
    def test_no_answer_depends_on_how_fast_the_video_came(self, announced: bool, shared_dir: Path) -> None:
        wrong: list[str] = []
        early: list[str] = []
        for path in sorted((shared_dir / "videos").iterdir()):
            for data in dict.fromkeys((path.read_bytes(), moov_first(path.read_bytes()))):
                with Spool() as spool:
                    piece = len(data) // 40 + 1
                    pieces = [data[start : start + piece] for start in range(0, len(data), piece)]
                    upload = Uploading(spool, pieces, expected=len(data) if announced else None)
                    growing, at_first = told(SpoolReader(spool.fd, upload), upload)
                if growing != told_at_once(data):
                    wrong.append(path.name)
                if at_first:
                    early.append(path.name)
        assert wrong == []
        assert ("mp4_faststart.mp4" in early) == announced
        assert (len(early) >= 12) == announced


@cache
def told_at_once(data: bytes) -> tuple[object, ...]:
    """`told` of a file that is there from the start; once for both ways of uploading it."""
    return told(io.BytesIO(data))[0]


def told(reader: Reader, upload: Uploading | None = None) -> tuple[tuple[object, ...], bool]:
    """All that is said of a video: what it is, its frames and their price, or what is wrong with it.

    And whether the first frame came before the last byte of the upload.
    """
    sampled = job().sampling
    frames: list[tuple[object, ...]] = []
    early = False
    try:
        with open_video(reader) as video:
            wanted = wanted_frames(video.index.frames, frames=sampled.frames, order=sampled.order)
            stream = FrameStream(video, wanted, GEOMETRY)
            while (frame := stream.next()) is not None:
                early = early or not (frames or upload is None or upload.complete)
                frames.append((frame.position, frame.index, frame.time_s, frame.pixels.tobytes()))
            return (video.info, frames, stream.frames_decoded), early
    except VideoError as error:
        return (type(error), str(error), frames), early

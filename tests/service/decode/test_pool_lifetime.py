"""The lifetime of a pool: start, log messages, resources, and cleanup."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

import psutil
import pytest

from adafocus.service.decode.pool import DecodePool, PoolSettings, WorkerStartError
from adafocus.service.errors import Draining
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

"""A worker that a video has taken over: what it can still do to others. The worker is patched, as if it had been."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from adafocus.service.decode import template
from adafocus.service.decode.idle_watch import MOST_IDLE_SECONDS, IdleWatch
from adafocus.service.decode.pool import DecodePool
from adafocus.service.decode.template import ForkedProcess, WorkerStartError, WorkerTemplate
from adafocus.video.decoder import Frame
from tests.service.decode.factory import MEMORY_BYTES, Watcher, clip, filled, job, pool_of, rest, turns_until

BEGIN = """
import sys
from adafocus.service.decode.worker import control, frame_writer, main
"""
END = """
main.main(sys.argv[1:])
"""

KEEPS_FRAMES = """
import ctypes
kept = []

def read(writer):
    return ctypes.string_at(writer._address, writer._size)

def put(self, slot, pixels, honest=frame_writer.FrameWriter.put):
    marked = pixels.copy()
    changed = any(read(writer) != content for writer, content in kept)
    marked[0, 0] = len(kept), changed, 0
    honest(self, slot, marked)
    kept[:] = [(writer, read(writer)) for writer, _ in kept]  # what it wrote itself is no news to it

def rest(self, writer):
    kept.append((writer, read(writer)))

frame_writer.FrameWriter.put, frame_writer.FrameWriters.rest = put, rest
"""

BURNS = """
def next_job(self, forget, honest=control.Control.next_job, jobs=[]):
    while jobs:
        pass
    jobs.append(None)
    return honest(self, forget)

control.Control.next_job = next_job
"""

STARTS_THINGS = """
import os, threading

def put(self, slot, pixels, honest=frame_writer.FrameWriter.put):
    marked = pixels.copy()
    marked[0, 0] = 0
    for number, start in enumerate((os.fork, threading.Thread(target=lambda: None).start)):
        try:
            start()
            marked[0, 0, number] = 1
        except (OSError, RuntimeError):
            pass
    honest(self, slot, marked)

frame_writer.FrameWriter.put = put
"""


@pytest.fixture
def evil(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Workers that run a patch before they begin."""
    honest = template._spawn

    def spawn(arguments: list[str], *inherited: int) -> subprocess.Popen[bytes]:
        assert arguments[0] == "-m"
        return honest(["-c", BEGIN + request.param + END, *arguments[2:]], *inherited)

    monkeypatch.setattr(template, "_spawn", spawn)


async def frames_for(pool: DecodePool, caller: str) -> list[Frame]:
    with filled(clip()) as spool:
        async with pool.open(spool, job(), caller=caller) as session:
            return await rest(session)


def marks(frames: list[Frame]) -> set[tuple[int, ...]]:
    """What the worker wrote into the first pixel of each frame."""
    return {tuple(int(value) for value in frame.pixels[0, 0]) for frame in frames}


@pytest.mark.parametrize("evil", [KEEPS_FRAMES], indirect=True, ids=["keeps frames"])
@pytest.mark.usefixtures("evil")
async def test_it_sees_nothing_of_another_caller() -> None:
    watcher = Watcher()
    async with pool_of(1, watcher=watcher) as pool:
        assert marks(await frames_for(pool, "a")) == {(0, 0, 0)}
        assert {kept for kept, _, _ in marks(await frames_for(pool, "a"))} == {1}, "it keeps those of its own caller"
        assert marks(await frames_for(pool, "b")) == {(0, 0, 0)}, "another caller gets a fresh one"
        assert watcher.restarts == ["caller"]
        assert watcher.workers == 1


@pytest.mark.parametrize("evil", [KEEPS_FRAMES], indirect=True, ids=["keeps frames"])
@pytest.mark.usefixtures("evil")
async def test_the_memory_that_it_keeps_is_never_given_to_another_caller() -> None:
    watcher = Watcher()
    async with pool_of(2, watcher=watcher) as pool:
        await frames_for(pool, "a")
        for caller in ("b", "b", "b"):
            await frames_for(pool, caller)
        assert {changed for _, changed, _ in marks(await frames_for(pool, "a"))} == {0}
        assert watcher.restarts == [], "there is a worker for each of them"


@pytest.mark.parametrize("evil", [BURNS], indirect=True, ids=["burns"])
@pytest.mark.usefixtures("evil")
async def test_it_is_killed_if_it_uses_the_processor_while_it_is_idle() -> None:
    watcher = Watcher()
    async with pool_of(1, watcher=watcher) as pool:
        await frames_for(pool, "a")
        (pid,) = pool.pids
        async with asyncio.timeout(60):
            await watcher.until(0)
            await watcher.until(1)
            while psutil.pid_exists(pid):  # its restart is noticed first, its end a moment later
                await asyncio.sleep(0.01)
        assert watcher.restarts == ["idle_cpu"]


@pytest.mark.parametrize("evil", [STARTS_THINGS], indirect=True, ids=["starts things"])
@pytest.mark.usefixtures("evil")
async def test_it_starts_neither_threads_nor_processes() -> None:
    async with pool_of(1) as pool:
        frames = await frames_for(pool, "a")
        if pool.sandbox is not None and pool.sandbox.seccomp:
            assert marks(frames) == {(0, 0, 0)}
            (pid,) = pool.pids
            assert psutil.Process(pid).num_threads() == 1


async def test_a_caller_keeps_its_worker_while_there_are_enough() -> None:
    watcher = Watcher()
    async with pool_of(2, watcher=watcher) as pool:
        for caller in ("a", "b", "a", "b", "b", "a"):
            assert len(await frames_for(pool, caller)) == 16
        assert watcher.restarts == []


async def test_videos_of_many_callers_at_once_are_all_decoded() -> None:
    watcher = Watcher()
    async with pool_of(2, watcher=watcher) as pool:
        found = await asyncio.gather(*(frames_for(pool, f"caller {number % 5}") for number in range(15)))
        assert [len(frames) for frames in found] == [16] * 15
        assert set(watcher.restarts) == {"caller"}
        assert pool.segments_lent == 0
        assert watcher.workers == 2


class TestIdleWatch:
    class Worker:
        def __init__(self) -> None:
            self.jobs, self.used = 1, 0.0

        def cpu_seconds(self) -> float:
            return self.used

    def test_only_who_works_without_a_job_is_noticed(self) -> None:
        burning, busy, quiet = self.Worker(), self.Worker(), self.Worker()
        noticed: list[TestIdleWatch.Worker] = []
        watch = IdleWatch(lambda: (burning, busy, quiet), noticed.append)
        watch.look()
        for worker, seconds in ((burning, 2.0), (busy, 2.0), (quiet, 0.5)):
            worker.used += seconds * MOST_IDLE_SECONDS
        busy.jobs += 1
        watch.look()
        assert noticed == [burning]


@asynccontextmanager
async def template_of() -> AsyncIterator[WorkerTemplate]:
    forked = WorkerTemplate(slots=2, crop=64, memory_bytes=MEMORY_BYTES, start_seconds=60)
    try:
        yield forked
    finally:
        forked.close()


class TestTemplate:
    async def test_its_workers_are_children_of_the_service_and_tell_how_they_ended(self) -> None:
        async with template_of() as forks:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with ours, theirs:
                process = await forks.fork(theirs)
                assert psutil.Process(process.pid).ppid() == os.getpid()
                assert process.poll() is None
                os.kill(process.pid, signal.SIGSEGV)
                assert process.wait() == process.poll() == -signal.SIGSEGV
                process.kill()

    async def test_it_is_started_again_after_it_has_ended(self) -> None:
        watcher = Watcher()
        async with pool_of(1, watcher=watcher) as pool:
            assert pool._fleet._template._process is not None
            pool._fleet._template._process.kill()
            pool._fleet._template._process.wait()
            os.kill(pool.pids[0], signal.SIGKILL)
            await turns_until(lambda: watcher.restarts == ["crashed"])
            assert len(await frames_for(pool, "a")) == 16

    async def test_it_becomes_the_worker_where_it_cannot_fork(self, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = template._spawn
        patch = "from adafocus.service.decode.worker import template; template.fork_sibling = lambda: None\n"
        monkeypatch.setattr(
            template, "_spawn", lambda words, *fds: honest(["-c", BEGIN + patch + END, *words[2:]], *fds)
        )
        async with pool_of(2) as pool:
            assert len(set(pool.pids)) == 2
            assert len(await frames_for(pool, "a")) == 16
            assert pool._fleet._template._process is None

    async def test_a_template_that_does_not_start_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        honest = template._spawn
        monkeypatch.setattr(template, "_spawn", lambda words, *fds: honest(["-c", "raise SystemExit(1)"], *fds))
        async with template_of() as forks:
            ours, theirs = socket.socketpair()
            with ours, theirs, pytest.raises(WorkerStartError):
                await forks.fork(theirs)

    def test_a_child_that_somebody_else_has_waited_for_counts_as_killed(self) -> None:
        done = subprocess.Popen(["true"])
        pid = done.pid
        done.wait()
        assert ForkedProcess(pid).poll() == -signal.SIGKILL

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.service.decode.watchdog import (
    Signs,
    Verdict,
    Watchdog,
    WorkerTimeouts,
    judge,
    nap,
    process_cpu_seconds,
    waits_for_processor,
)

PATIENCE = WorkerTimeouts(stall_seconds=10, cpu_seconds=60, close_seconds=5)


def signs(*, heard: float = 100, cpu: float = 1, owes: bool = True, closing: float | None = None) -> Signs:
    return Signs(heard=heard, cpu_start=1, cpu_heard=cpu, owes=owes, closing=closing)


@pytest.mark.parametrize(
    ("known", "now", "cpu", "verdict"),
    [
        (signs(), 109.9, 1, None),
        (signs(), 110, 1, "silent"),
        (signs(), 110, 1.05, "silent"),  # it only wakes up now and then
        (signs(), 110, 2, None),  # it works
        (signs(owes=False), 500, 1, None),  # it is not its turn
        (signs(owes=False), 500, 61, "busy"),
        (signs(), 101, 61, "busy"),
        (signs(heard=104, closing=100), 104.9, 2, None),
        (signs(heard=105, closing=100), 105, 50, "unclosed"),
    ],
)
def test_patience_ends_where_it_says(known: Signs, now: float, cpu: float, verdict: Verdict | None) -> None:
    assert judge(known, PATIENCE, now, cpu) == verdict


@given(
    heard=st.floats(0, 100),
    later=st.floats(0, 100),
    burnt=st.floats(0, 100),
    owes=st.booleans(),
    closing=st.none() | st.floats(0, 100),
)
def test_the_next_look_is_neither_frantic_nor_late(
    heard: float, later: float, burnt: float, owes: bool, closing: float | None
) -> None:
    known = Signs(heard=heard, cpu_start=0, cpu_heard=0, owes=owes, closing=closing)
    seconds = nap(known, PATIENCE, heard + later, burnt)
    assert 0.05 <= seconds <= PATIENCE.stall_seconds


async def test_it_gives_up_once_and_can_be_called_off() -> None:
    given_up: asyncio.Queue[Verdict] = asyncio.Queue()
    dog = Watchdog(WorkerTimeouts(stall_seconds=0.01), lambda: 0.0, given_up.put_nowait)
    assert await asyncio.wait_for(given_up.get(), 30) == "silent"
    assert given_up.empty()
    dog.stop()
    dog.stop()


async def test_a_request_that_is_not_let_go_is_noticed_even_if_the_worker_works() -> None:
    given_up: asyncio.Queue[Verdict] = asyncio.Queue()
    clock = iter(range(1, 1000))
    dog = Watchdog(WorkerTimeouts(cpu_seconds=1e6, close_seconds=0.01), lambda: float(next(clock)), given_up.put_nowait)
    dog.heard(owes=False)
    dog.closing()
    assert await asyncio.wait_for(given_up.get(), 30) == "unclosed"


async def test_a_worker_that_waits_for_the_processor_is_not_silent() -> None:
    given_up: asyncio.Queue[Verdict] = asyncio.Queue()
    starved = iter([True, True, False])
    dog = Watchdog(WorkerTimeouts(stall_seconds=0.01), lambda: 0.0, given_up.put_nowait, lambda: next(starved))
    assert await asyncio.wait_for(given_up.get(), 30) == "silent"
    assert next(starved, None) is None, "it was asked until it was not starved any more"
    dog.stop()


def test_only_what_could_run_waits_for_the_processor() -> None:
    assert waits_for_processor(os.getpid()), "it asks itself, so it runs"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        assert not waits_for_processor(process.pid)
        process.kill()
    assert not waits_for_processor(process.pid), "it has ended"


@pytest.mark.parametrize("name", ["stall_seconds", "cpu_seconds", "close_seconds"])
def test_patience_must_be_some(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        WorkerTimeouts(**{name: 0})


def test_processor_time_of_another_process_is_read() -> None:
    assert process_cpu_seconds(os.getpid()) > 0
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert 0 <= process_cpu_seconds(child.pid) < 60
        child.communicate(b"\n")
    assert process_cpu_seconds(child.pid) == 0

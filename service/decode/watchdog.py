"""When to give up on a worker: by its silence, and by the processor time it has burnt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["silent", "busy", "unclosed"]
"""It owes a word and does not even work; it works for ever; it does not let go of a request that was closed."""

_SHORTEST_NAP = 0.05
_WORKING_SHARE = 0.01


@dataclass(frozen=True)
class WorkerTimeouts:
    """How long a worker may take.

    Attributes:
        stall_seconds: without a word and without using the processor, while it owes one.
        cpu_seconds: processor time on one request.
        close_seconds: from closing a request until the worker is free.
    """

    stall_seconds: float = 10.0
    cpu_seconds: float = 120.0
    close_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name in ("stall_seconds", "cpu_seconds", "close_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be greater than 0, got {getattr(self, name)}")


@dataclass
class Signs:
    """What is known of a worker on one request; times on any one clock, in seconds.

    Attributes:
        heard: when it last spoke, last worked, or last began to owe a word.
        cpu_start: its processor time when the request began.
        cpu_heard: its processor time at ``heard``.
        owes: whether it is its turn.
        closing: when the request was closed; None while it is open.
    """

    heard: float
    cpu_start: float
    cpu_heard: float
    owes: bool = True
    closing: float | None = None


def judge(signs: Signs, patience: WorkerTimeouts, now: float, cpu: float) -> Verdict | None:
    """Whether to give up now. A worker that uses the processor is alive, within its budget. Pure."""
    if cpu - signs.cpu_start >= patience.cpu_seconds:
        return "busy"
    if signs.closing is not None and now - signs.closing >= patience.close_seconds:
        return "unclosed"
    if signs.owes and now - signs.heard >= patience.stall_seconds and not works(signs, now, cpu):
        return "silent"
    return None


def works(signs: Signs, now: float, cpu: float) -> bool:
    """Whether the worker has used the processor since it was heard, more than waking up now and then does. Pure."""
    return cpu - signs.cpu_heard > _WORKING_SHARE * (now - signs.heard)


def nap(signs: Signs, patience: WorkerTimeouts, now: float, cpu: float) -> float:
    """Seconds after which to judge again: not before one of the limits can be met. Pure."""
    waits = [patience.cpu_seconds - (cpu - signs.cpu_start), patience.stall_seconds]
    if signs.owes:
        waits.append(patience.stall_seconds - (now - signs.heard))
    if signs.closing is not None:
        waits.append(patience.close_seconds - (now - signs.closing))
    return max(_SHORTEST_NAP, min(waits))


class Watchdog:
    """Watches a worker over one request with a timer of the event loop.

    Args:
        patience: the limits.
        cpu_seconds: reads the worker's processor time.
        give_up: called at most once, with the reason.
    """

    def __init__(
        self, patience: WorkerTimeouts, cpu_seconds: Callable[[], float], give_up: Callable[[Verdict], None]
    ) -> None:
        self._patience = patience
        self._cpu_seconds = cpu_seconds
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        cpu = cpu_seconds()
        self._signs = Signs(heard=self._loop.time(), cpu_start=cpu, cpu_heard=cpu)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._sleep(cpu)

    def heard(self, *, owes: bool) -> None:
        """The worker has spoken, or been spoken to; ``owes`` says whether it is its turn now."""
        self._signs.heard, self._signs.cpu_heard = self._loop.time(), self._cpu_seconds()
        self._signs.owes = owes
        if self._signs.cpu_heard - self._signs.cpu_start >= self._patience.cpu_seconds:
            self._expire("busy")

    def closing(self) -> None:
        """The request was closed."""
        self._signs.closing = self._loop.time()
        self.heard(owes=True)
        self._sleep(self._signs.cpu_heard)

    def stop(self) -> None:
        """The request has ended."""
        self._stopped = True
        self._cancel()

    def _expire(self, verdict: Verdict) -> None:
        if not self._stopped:
            self.stop()
            self._give_up(verdict)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        now, cpu = self._loop.time(), self._cpu_seconds()
        verdict = judge(self._signs, self._patience, now, cpu)
        if verdict is not None:
            self._expire(verdict)
            return
        if works(self._signs, now, cpu):
            self._signs.heard, self._signs.cpu_heard = now, cpu
        self._sleep(cpu)

    def _sleep(self, cpu: float) -> None:
        self._cancel()
        if self._stopped:
            return
        self._timer = self._loop.call_later(nap(self._signs, self._patience, self._loop.time(), cpu), self._look)


def process_cpu_seconds(pid: int) -> float:
    """Processor time that a process has used; 0 if there is no such process.

    Reads the kernel's per-process clock, whose number follows from the pid (``man 3 clock_getcpuclockid``).
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0

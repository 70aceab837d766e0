"""Decides when a worker has hung, from its silence and from the processor time that it has used."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Verdict = Literal["silent", "busy", "unclosed"]
"""Why a worker is given up.

silent: its reply is overdue, it uses no processor time, and it does not wait for any either. busy: it has used more
processor time than allowed. unclosed: it has not ended a request in time after the request was closed.
"""

_SHORTEST_NAP = 0.05
_WORKING_SHARE = 0.01


@dataclass(frozen=True)
class WorkerTimeouts:
    """Time limits of a worker.

    Attributes:
        stall_seconds: longest time without a message and without using the processor, while a reply is due.
        cpu_seconds: most processor time on one request.
        close_seconds: longest time from closing a request until the worker is free.
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
    """The observed state of a worker on one request. All times are in seconds, on the same clock.

    Attributes:
        heard: when it last sent a message, last used the processor, or when its reply last became due.
        cpu_start: its processor time when the request began.
        cpu_heard: its processor time at ``heard``.
        owes: whether a reply from it is due.
        closing: when the request was closed; None while it is open.
    """

    heard: float
    cpu_start: float
    cpu_heard: float
    owes: bool = True
    closing: float | None = None


def judge(signs: Signs, patience: WorkerTimeouts, now: float, cpu: float) -> Verdict | None:
    """The reason to give up now, or None. A worker that uses the processor within its limit is alive. Pure."""
    if cpu - signs.cpu_start >= patience.cpu_seconds:
        return "busy"
    if signs.closing is not None and now - signs.closing >= patience.close_seconds:
        return "unclosed"
    if signs.owes and now - signs.heard >= patience.stall_seconds and not works(signs, now, cpu):
        return "silent"
    return None


def works(signs: Signs, now: float, cpu: float) -> bool:
    """Return True if the worker has used more processor time since ``heard`` than occasional wake-ups need. Pure."""
    return cpu - signs.cpu_heard > _WORKING_SHARE * (now - signs.heard)


def nap(signs: Signs, patience: WorkerTimeouts, now: float, cpu: float) -> float:
    """Seconds until the next check: the earliest time at which a limit can be reached. Pure."""
    # Whoever closes the request meanwhile starts no other timer.
    waits = [patience.cpu_seconds - (cpu - signs.cpu_start), patience.stall_seconds, patience.close_seconds]
    if signs.owes:
        waits.append(patience.stall_seconds - (now - signs.heard))
    if signs.closing is not None:
        waits.append(patience.close_seconds - (now - signs.closing))
    return max(_SHORTEST_NAP, min(waits))


class Watchdog:
    """Watches a worker during one request with a timer of the event loop.

    Args:
        patience: the time limits.
        cpu_seconds: returns the worker's processor time.
        give_up: called at most once, with the reason.
        starved: tells whether the worker would use the processor if others left it some.
    """

    def __init__(
        self,
        patience: WorkerTimeouts,
        cpu_seconds: Callable[[], float],
        give_up: Callable[[Verdict], None],
        starved: Callable[[], bool] = lambda: False,
    ) -> None:
        self._patience = patience
        self._starved = starved
        self._cpu_seconds = cpu_seconds
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        cpu = cpu_seconds()
        self._signs = Signs(heard=self._loop.time(), cpu_start=cpu, cpu_heard=cpu)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._sleep(cpu)

    def heard(self, *, owes: bool) -> None:
        """Record that a message was sent or received; ``owes`` tells whether a reply from the worker is now due."""
        self._signs.heard, self._signs.cpu_heard = self._loop.time(), self._cpu_seconds()
        self._signs.owes = owes
        if self._signs.cpu_heard - self._signs.cpu_start >= self._patience.cpu_seconds:
            self._expire("busy")

    def closing(self) -> None:
        """Record that the request was closed. No nap is longer than a worker may take to close."""
        self._signs.closing = self._loop.time()
        self.heard(owes=True)

    def stop(self) -> None:
        """Stop watching, because the request has ended."""
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
        starved = verdict == "silent" and self._starved()  # a low priority may leave it next to nothing for long
        if verdict is not None and not starved:
            self._expire(verdict)
            return
        if starved or works(self._signs, now, cpu):
            self._signs.heard, self._signs.cpu_heard = now, cpu
        self._sleep(cpu)

    def _sleep(self, cpu: float) -> None:
        self._cancel()
        if self._stopped:
            return
        self._timer = self._loop.call_later(nap(self._signs, self._patience, self._loop.time(), cpu), self._look)


def process_cpu_clock(pid: int) -> int:
    """The kernel's clock of the processor time of a process, for ``time.clock_gettime``.

    Its id is computed from the process id (``man 3 clock_getcpuclockid``).
    """
    return (~pid << 3) | 2


def process_cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, in seconds; 0 if there is no such process."""
    try:
        return time.clock_gettime(process_cpu_clock(pid))
    except OSError:
        return 0.0


def waits_for_processor(pid: int) -> bool:
    """Whether a process would run if it were given a processor; False if it sleeps, is stopped or has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="latin-1")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] == "R"

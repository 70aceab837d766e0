"""What the exit code of a worker says about its end. Pure."""

from __future__ import annotations

import signal

from adafocus.service.errors import Internal, Problem, Undecodable

_OWN_DOING = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGFPE, signal.SIGILL, signal.SIGSYS, signal.SIGTRAP}
)
"""Signals that a process causes by its own fault."""

_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})
"""Signals that others send, or the system that has no memory left."""


def killed_from_outside(code: int) -> bool:
    """Whether a worker with this exit code was killed, and not by what it did itself; negative for a signal."""
    return -code in _FROM_OUTSIDE


def problem_of_exit(code: int) -> Problem:
    """The problem of a request whose worker has ended with this exit code; negative for a signal."""
    return Undecodable("the decoder crashed on the video") if -code in _OWN_DOING else Internal()

"""The sandbox of a decode worker, which the worker enters before it reads the first untrusted byte.

It is entered after the imports: no new privileges, no capabilities, no access to files (Landlock), few system calls
(seccomp), limited memory, no core file, and the process is killed when its parent ends. Every layer is tried, and the
report lists those that the kernel does not offer. Nothing can be undone, so this is called only in a worker process.

Sources: the kernel's documentation of Landlock and seccomp, ``man 2 prctl``, ``man 2 setrlimit``. Standard library
only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adafocus.service.decode.worker.seccomp import MACHINES, Machine, SockFprog, build_filter

OOM_SCORE = 800
"""From -1000, never, to 1000, first; raising it needs no privilege."""

MAX_OPEN_FILES = 16
"""Enough for the control socket, one spool, the three standard descriptors and a few more."""

_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SECCOMP_SET_MODE_FILTER, _SECCOMP_FILTER_FLAG_TSYNC = 1, 1
_CAPABILITY_VERSION_3 = 0x20080522

# The same numbers on every architecture, as for all calls added since 2019.
_LANDLOCK_CREATE_RULESET, _LANDLOCK_RESTRICT_SELF = 444, 446
_LANDLOCK_QUERY_VERSION = 1
# Rights to files known to version 1 of the interface, and those that versions 2, 3 and 5 added; then TCP, and scopes.
_FILES_V1 = (1 << 13) - 1
_FILES_ADDED = ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
_NETWORK_SINCE, _NETWORK = 4, 0b11
_SCOPES_SINCE, _SCOPES = 6, 0b11


@dataclass(frozen=True)
class SandboxReport:
    """The layers of the sandbox that are in force in a worker.

    Attributes:
        no_new_privileges: set-user-id programs cannot gain privileges.
        landlock: version of the kernel's Landlock interface in force; 0 if none.
        seccomp: whether the list of allowed system calls is in force.
        memory_limit_bytes: limit of the address space; None if there is none.
        missing: one phrase for each layer that is missing, with the reason; empty if all are in force.
    """

    no_new_privileges: bool
    landlock: int
    seccomp: bool
    memory_limit_bytes: int | None
    missing: tuple[str, ...] = ()


class _NotOfferedError(Exception):
    """This system does not offer a layer."""


def enter(
    memory_bytes: int, *, parent: int, requests: Sequence[int] = (), writable: Sequence[int] = ()
) -> SandboxReport:
    """Enter the sandbox. Called once, in the only thread of a worker, after its last import.

    Args:
        memory_bytes: address space that the worker may use beyond what it has now.
        parent: id of the process whose end also ends this one.
        requests: of ``ioctl`` that are needed, on descriptors that are open already.
        writable: descriptors that ``write`` is needed for; ``send`` is allowed on any socket that is open.

    Raises:
        SystemExit: the parent has already ended.
    """
    missing: list[str] = []

    def attempt(layer: str, step: Callable[[], int]) -> int:
        try:
            return step()
        except (_NotOfferedError, OSError, ValueError) as error:
            missing.append(f"{layer}: {error}")
            return 0

    if not sys.platform.startswith("linux"):
        return SandboxReport(False, 0, False, None, (f"sandbox: none for {sys.platform}",))
    threads = sum(1 for _ in Path("/proc/self/task").iterdir()) if Path("/proc/self/task").is_dir() else 1
    if threads > 1:
        missing.append(f"landlock: {threads - 1} threads were started before it")
    libc = ctypes.CDLL(None, use_errno=True)
    machine = MACHINES.get(os.uname().machine)
    attempt("preferred victim", _be_the_first_victim)
    limit = attempt("memory limit", lambda: _limit_resources(memory_bytes))
    attempt("capabilities", lambda: _drop_capabilities(libc, machine))
    attempt("death with the parent", lambda: _die_with(libc, parent))
    privileges = attempt("no_new_privs", lambda: _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1))
    landlock = attempt("landlock", lambda: _forbid_files(libc))
    seccomp = attempt("seccomp", lambda: _filter_calls(libc, machine, requests, writable))
    return SandboxReport(bool(privileges), landlock, bool(seccomp), limit or None, tuple(missing))


def fall_silent() -> None:
    """Redirect the standard descriptors to /dev/null, because a hostile file could make FFmpeg write to stderr."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.close(nothing)


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    ctypes.set_errno(0)
    result = int(libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise _NotOfferedError(os.strerror(ctypes.get_errno()))
    return result


def _prctl(libc: ctypes.CDLL, option: int, value: int) -> int:
    if libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
        raise _NotOfferedError(os.strerror(ctypes.get_errno()))
    return 1


def _limit_resources(memory_bytes: int) -> int:
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_NPROC, 0),  # what it may not start, threads included; not heeded for root
    ):
        resource.setrlimit(what, (limit, limit))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    wanted = pages * resource.getpagesize() + memory_bytes
    _, ceiling = resource.getrlimit(resource.RLIMIT_AS)
    limit = wanted if ceiling == resource.RLIM_INFINITY else min(wanted, ceiling)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    return limit


def _be_the_first_victim() -> int:
    """When memory runs out, the kernel ends the process that costs one request, not the one that holds the model."""
    Path("/proc/self/oom_score_adj").write_text(f"{OOM_SCORE}\n", encoding="ascii")
    return 1


def _known(machine: Machine | None) -> Machine:
    if machine is None:
        raise _NotOfferedError(f"no list of system calls for {os.uname().machine}")
    return machine


def _drop_capabilities(libc: ctypes.CDLL, machine: Machine | None) -> int:
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: two words each
    _call(libc, _known(machine).capset, header, nothing)
    return 1


def _die_with(libc: ctypes.CDLL, parent: int) -> int:
    _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(0)
    return 1


def _forbid_files(libc: ctypes.CDLL) -> int:
    version = _call(libc, _LANDLOCK_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint(_LANDLOCK_QUERY_VERSION))
    fields = [_FILES_V1 | sum(right for since, right in _FILES_ADDED if version >= since)]
    if version >= _NETWORK_SINCE:
        fields.append(_NETWORK)
    if version >= _SCOPES_SINCE:
        fields.append(_SCOPES)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _call(
        libc, _LANDLOCK_CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(len(attributes)), ctypes.c_uint(0)
    )
    try:
        _call(libc, _LANDLOCK_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint(0))
    finally:
        with contextlib.suppress(OSError):
            os.close(ruleset)
    return version


def _filter_calls(libc: ctypes.CDLL, machine: Machine | None, requests: Sequence[int], writable: Sequence[int]) -> int:
    machine = _known(machine)
    instructions = build_filter(machine, requests, writable)
    program = SockFprog(len(instructions) // 8, instructions)
    flags = ctypes.c_uint(_SECCOMP_FILTER_FLAG_TSYNC)
    thread = _call(libc, machine.seccomp, ctypes.c_uint(_SECCOMP_SET_MODE_FILTER), flags, ctypes.byref(program))
    if thread:  # a positive result is the id of a thread that could not be brought under the filter
        raise _NotOfferedError("another thread could not be brought under the filter")
    return 1

"""The seccomp filter: the system calls that a decode worker may make in its sandbox.

It lists what is allowed, so calls that a future kernel adds are refused. Decoding needs few calls, because the memory
is already mapped and the descriptors are already open. A refused call fails with ``EPERM`` and does not kill the
process, so that a library which only queries something (a thread's name, a terminal) can continue.

The list was found by tracing the decoders on damaged and intact files. The numbers are from the kernel's tables for
x86_64 and aarch64.
"""

from __future__ import annotations

import ctypes
import errno
import struct
from collections.abc import Sequence
from dataclasses import dataclass

# Classic BPF: load a word of seccomp_data; jump if it is equal, is greater, has any of these bits; return.
_LOAD, _JUMP_EQUAL, _JUMP_GREATER, _JUMP_BITS, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_OFFSET_NUMBER, _OFFSET_ARCH, _OFFSET_ARGUMENTS = 0, 4, 16

_PROT_EXEC = 0x4
_LAST_STANDARD_DESCRIPTOR = 2


@dataclass(frozen=True)
class Machine:
    """Numbers of system calls, which differ between processor architectures.

    Attributes:
        audit_arch: the kernel's number for the architecture, as a filter sees it.
        seccomp: number of the call that installs a filter.
        capset: number of the call that drops capabilities.
        clone: starts threads and processes; refused. The template of the workers forks them with it.
        clone3: the same. It fails with ``ENOSYS``, so that libc tries ``clone``, which it expects to fail.
        write: allowed on the standard descriptors, which lead to /dev/null by then, and on those that are named when
            the filter is built. PyAV and FFmpeg report errors there, and PyAV may loop for ever if that fails.
        mapping: ``mmap`` and ``mprotect``, allowed unless their third argument requests executable memory.
        plain: allowed with any arguments; the most frequent calls come first.
        ioctl: allowed for the requests that are named when the filter is built; for a decode worker there are none.
    """

    audit_arch: int
    seccomp: int
    capset: int
    clone: int
    clone3: int
    write: int
    mapping: tuple[int, int]
    plain: tuple[int, ...]
    ioctl: int


X86_64 = Machine(
    audit_arch=0xC000003E,
    seccomp=317,
    capset=126,
    clone=56,
    clone3=435,
    write=1,
    mapping=(9, 10),
    plain=(
        202, 17, 44, 45, 46, 47,  # futex pread64 sendto recvfrom sendmsg recvmsg
        28, 12, 11, 25,  # madvise brk munmap mremap
        228, 96, 201, 229, 230, 35,  # clock_gettime gettimeofday time clock_getres clock_nanosleep nanosleep
        0, 3, 7, 271,  # read close poll ppoll
        13, 14, 15, 131, 219,  # rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
        273, 334, 218, 186, 39,  # set_robust_list rseq set_tid_address gettid getpid
        24, 204, 318, 98, 99,  # sched_yield sched_getaffinity getrandom getrusage sysinfo
        60, 231,  # exit exit_group
    ),
    ioctl=16,
)  # fmt: skip

AARCH64 = Machine(
    audit_arch=0xC00000B7,
    seccomp=277,
    capset=91,
    clone=220,
    clone3=435,
    write=64,
    mapping=(222, 226),
    plain=(
        98, 67, 206, 207, 211, 212,  # futex pread64 sendto recvfrom sendmsg recvmsg
        233, 214, 215, 216,  # madvise brk munmap mremap
        113, 169, 114, 115, 101,  # clock_gettime gettimeofday clock_getres clock_nanosleep nanosleep
        63, 57, 73,  # read close ppoll
        134, 135, 139, 132, 128,  # rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
        99, 293, 96, 178, 172,  # set_robust_list rseq set_tid_address gettid getpid
        124, 123, 278, 165, 179,  # sched_yield sched_getaffinity getrandom getrusage sysinfo
        93, 94,  # exit exit_group
    ),
    ioctl=29,
)  # fmt: skip

MACHINES: dict[str, Machine] = {"x86_64": X86_64, "aarch64": AARCH64}
"""By ``os.uname().machine``."""


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _low_half_of_argument(index: int) -> bytes:
    # Both supported architectures are little-endian: the low 32 bits come first.
    return _instruction(_LOAD, _OFFSET_ARGUMENTS + 8 * index)


def _refuse(error: int) -> bytes:
    return _instruction(_RETURN, _ERRNO | error)


def build_filter(machine: Machine, requests: Sequence[int] = (), writable: Sequence[int] = ()) -> bytes:
    """Build the filter as BPF instructions of 8 bytes each. Pure; tests interpret the result.

    Args:
        machine: whose numbers it has.
        requests: of ``ioctl`` that are allowed, on any descriptor that is open.
        writable: descriptors beside the standard ones on which ``write`` is allowed.
    """
    allow = _instruction(_RETURN, _ALLOW)
    program = [
        _instruction(_LOAD, _OFFSET_ARCH),
        _instruction(_JUMP_EQUAL, machine.audit_arch, 1, 0),
        _instruction(_RETURN, _KILL),  # calls in another architecture's numbering
        _instruction(_LOAD, _OFFSET_NUMBER),
    ]
    for number in machine.plain:
        program += [_instruction(_JUMP_EQUAL, number, 0, 1), allow]
    for number in machine.mapping:
        program += [
            _instruction(_JUMP_EQUAL, number, 0, 4),
            _low_half_of_argument(2),
            _instruction(_JUMP_BITS, _PROT_EXEC, 0, 1),
            _refuse(errno.EPERM),
            allow,
        ]
    if requests:
        program += [_instruction(_JUMP_EQUAL, machine.ioctl, 0, 2 + 2 * len(requests)), _low_half_of_argument(1)]
        for request in requests:
            program += [_instruction(_JUMP_EQUAL, request, 0, 1), allow]
        program.append(_refuse(errno.EPERM))
    program += [
        _instruction(_JUMP_EQUAL, machine.write, 0, 4 + 2 * len(writable)),
        _low_half_of_argument(0),
    ]
    for descriptor in writable:
        program += [_instruction(_JUMP_EQUAL, descriptor, 0, 1), allow]
    program += [
        _instruction(_JUMP_GREATER, _LAST_STANDARD_DESCRIPTOR, 0, 1),
        _refuse(errno.EPERM),
        allow,
        _instruction(_JUMP_EQUAL, machine.clone3, 0, 1),
        _refuse(errno.ENOSYS),
        _refuse(errno.EPERM),
    ]
    return b"".join(program)


class SockFprog(ctypes.Structure):
    """``struct sock_fprog``, in which the kernel receives a filter."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))

from __future__ import annotations

import errno
import struct

import pytest

from adafocus.service.decode.worker.seccomp import AARCH64, MACHINES, X86_64, Machine, build_filter

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
REFUSED = ERRNO | errno.EPERM
NO_SUCH_CALL = ERRNO | errno.ENOSYS

# Numbers from the kernel's tables, by name, of what must stay shut.
SHUT = {
    "x86_64": {
        "open": 2, "openat": 257, "openat2": 437, "creat": 85, "socket": 41, "connect": 42, "bind": 49,
        "socketpair": 53, "execve": 59, "execveat": 322, "fork": 57, "vfork": 58, "ptrace": 101, "kill": 62,
        "tgkill": 234, "writev": 20, "pwrite64": 18, "unlink": 87, "rename": 82, "chmod": 90, "truncate": 76,
        "process_vm_readv": 310, "process_vm_writev": 311, "io_uring_setup": 425, "bpf": 321, "mount": 165,
        "setns": 308, "unshare": 272, "memfd_create": 319, "prlimit64": 302, "pidfd_open": 434, "prctl": 157,
    },
    "aarch64": {
        "openat": 56, "openat2": 437, "socket": 198, "connect": 203, "bind": 200, "socketpair": 199, "execve": 221,
        "execveat": 281, "ptrace": 117, "kill": 129, "tgkill": 131, "writev": 66, "pwrite64": 68, "unlinkat": 35,
        "renameat": 38, "fchmodat": 53, "truncate": 45, "process_vm_readv": 270, "process_vm_writev": 271,
        "io_uring_setup": 425, "bpf": 280, "mount": 40, "setns": 268, "unshare": 97, "memfd_create": 279,
        "prlimit64": 261, "pidfd_open": 434, "prctl": 167,
    },
}  # fmt: skip


def verdict(
    machine: Machine,
    number: int,
    *arguments: int,
    arch: int | None = None,
    requests: tuple[int, ...] = (),
    writable: tuple[int, ...] = (),
) -> int:
    """Interpret the filter on one call, as the kernel does."""
    words = list(arguments) + [0] * (6 - len(arguments))
    data = struct.pack("=IIQ6Q", number, machine.audit_arch if arch is None else arch, 0, *words)
    instructions = _instructions(build_filter(machine, requests, writable))
    program = [struct.unpack("=HBBI", instruction) for instruction in instructions]
    accumulator = at = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        elif code == 0x15:
            at += if_true if accumulator == value else if_false
        elif code == 0x25:
            at += if_true if accumulator > value else if_false
        elif code == 0x45:
            at += if_true if accumulator & value else if_false
        else:
            assert code == 0x06
            return value


def _instructions(program: bytes) -> list[bytes]:
    assert len(program) % 8 == 0
    return [program[start : start + 8] for start in range(0, len(program), 8)]


@pytest.mark.parametrize("name", MACHINES)
def test_what_can_harm_is_refused(name: str) -> None:
    allowed = [call for call, number in SHUT[name].items() if verdict(MACHINES[name], number) != REFUSED]
    assert not allowed


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES.keys())
class TestFilter:
    def test_the_list_is_allowed(self, machine: Machine) -> None:
        assert {verdict(machine, number) for number in machine.plain} == {ALLOW}

    def test_neither_threads_nor_processes_may_start(self, machine: Machine) -> None:
        assert verdict(machine, machine.clone, 0x003D0F00) == REFUSED  # what pthread_create asks for
        assert verdict(machine, machine.clone, 0x01200011) == REFUSED  # what fork asks for
        assert verdict(machine, machine.clone, 0x10000000) == REFUSED  # a new user namespace
        assert verdict(machine, machine.clone3, 0) == NO_SUCH_CALL

    def test_complaints_may_be_written_and_nothing_else(self, machine: Machine) -> None:
        assert {verdict(machine, machine.write, fd) for fd in (0, 1, 2)} == {ALLOW}
        assert {verdict(machine, machine.write, fd) for fd in (3, 4, 200, 0xFFFFFFFF)} == {REFUSED}

    def test_memory_may_be_had_but_not_executed(self, machine: Machine) -> None:
        for call in machine.mapping:
            assert verdict(machine, call, 0, 4096, 0b011) == ALLOW
            assert verdict(machine, call, 0, 4096, 0b101) == REFUSED

    def test_calls_in_another_numbering_kill(self, machine: Machine) -> None:
        assert verdict(machine, machine.plain[0], arch=0x40000003) == KILL

    def test_what_no_kernel_knows_yet_is_refused(self, machine: Machine) -> None:
        assert {verdict(machine, number) for number in range(500, 3000)} == {REFUSED}


def test_the_x32_numbering_is_refused() -> None:
    assert verdict(X86_64, 0x40000000 | X86_64.plain[0]) == REFUSED


def test_no_call_is_listed_twice() -> None:
    for machine in (X86_64, AARCH64):
        numbers = (*machine.plain, *machine.mapping, machine.write, machine.clone, machine.clone3)
        assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize("machine", MACHINES.values())
def test_only_the_requests_of_ioctl_that_are_named_are_allowed(machine: Machine) -> None:
    requests = (0xC058560F, 0xC0585611)
    for request in requests:
        assert verdict(machine, machine.ioctl, 3, request, requests=requests) == ALLOW
        assert verdict(machine, machine.ioctl, 3, request) != ALLOW
    assert verdict(machine, machine.ioctl, 3, 0x5412, requests=requests) != ALLOW, "typing into a terminal"
    assert verdict(machine, machine.write, 2, requests=requests) == ALLOW, "the rest of the filter is as before"
    assert verdict(machine, machine.write, 3, requests=requests) != ALLOW


@pytest.mark.parametrize("machine", MACHINES.values())
def test_only_the_descriptors_that_are_named_may_be_written_to(machine: Machine) -> None:
    writable = (7, 9)
    assert {verdict(machine, machine.write, fd, writable=writable) for fd in (0, 1, 2, 7, 9)} == {ALLOW}
    assert {verdict(machine, machine.write, fd, writable=writable) for fd in (3, 8, 10, 0xFFFFFFFF)} == {REFUSED}
    assert verdict(machine, machine.clone3, 7, writable=writable) == NO_SUCH_CALL, "the rest is as before"

"""The memory that this process and its children may use: the machine's, or what their control groups allow."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from threading import Lock

from adafocus.service.cpu import CGROUP_ROOT, MEMBERSHIP, groups_upwards, own_groups, read_text

_one_at_a_time = Lock()
"""The limit belongs to the process: blocks that overlap would restore one another's."""


def usable_memory_bytes(cgroup_root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """The smallest limit of the control groups (v2 or v1) of this process, or the machine's memory if that is less."""
    own = own_groups(read_text(membership))
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    places = (("", "", "memory.max"), ("memory", "memory", "memory.limit_in_bytes"))
    for controller, folder, name in places:
        for group in groups_upwards(cgroup_root / folder, own.get(controller, PurePosixPath("/"))):
            text = read_text(group / name)
            if text.isdecimal():
                found.append(int(text))
    return min(found)


@contextmanager
def limited_growth(most_bytes: int) -> Iterator[None]:
    """Let this process take only so much more memory in the block; whatever needs more fails with an error there.

    For the length of the block only, and for all threads, because a limit belongs to the process; blocks of several
    threads run one after the other. Shared memory and mapped files do not count.
    """
    with _one_at_a_time:
        yield from _limited_growth(most_bytes)


def _limited_growth(most_bytes: int) -> Iterator[None]:
    before, ceiling = resource.getrlimit(resource.RLIMIT_DATA)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])  # data and stack
    limit = pages * resource.getpagesize() + most_bytes
    if before != resource.RLIM_INFINITY:
        limit = min(limit, before)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, ceiling))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (before, ceiling))

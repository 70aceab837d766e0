"""The number of processors that this process may use: its affinity and its control groups' quotas."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

CGROUP_ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cores(cgroup_root: Path = CGROUP_ROOT, membership: Path = MEMBERSHIP) -> int:
    """Processors within this process's affinity and its control groups' CPU quotas (v2 or v1), at least 1.

    A quota holds for all groups below the one that sets it, so the smallest on the way to the root counts: a service
    of systemd, or a process started in a group, is limited below the root that it sees.

    Thread pools of numerical libraries ignore quotas, and a pool larger than it is throttled: every pool of this
    service is sized from here.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min(_quotas(cgroup_root, membership), default=math.inf)
    return max(1, min(allowed, math.ceil(quota) if math.isfinite(quota) else allowed))


def _quotas(root: Path, membership: Path) -> Iterator[float]:
    """Processors that each group of this process grants; none for a group without a quota."""
    own = own_groups(read_text(membership))
    for folder in groups_upwards(root, own.get("", PurePosixPath("/"))):
        yield from _quota_v2(folder)
    for folder in groups_upwards(root / "cpu", own.get("cpu", PurePosixPath("/"))):
        yield from _quota_v1(folder)


def own_groups(text: str) -> dict[str, PurePosixPath]:
    """By controller, the path of this process's group; v2's has no controller's name."""
    found = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        found.update(dict.fromkeys(controllers.split(","), PurePosixPath(path)))
    return found


def groups_upwards(root: Path, group: PurePosixPath) -> Iterator[Path]:
    """A group's folder and those above it. In a container only the root may be there to be seen."""
    parts = group.parts[1:]
    for count in range(0 if ".." in parts else len(parts), -1, -1):
        yield root.joinpath(*parts[:count])


def _quota_v2(group: Path) -> Iterator[float]:
    text = read_text(group / "cpu.max").split()
    if len(text) == 2 and text[0] != "max":
        yield int(text[0]) / int(text[1])


def _quota_v1(group: Path) -> Iterator[float]:
    quota, period = read_text(group / "cpu.cfs_quota_us"), read_text(group / "cpu.cfs_period_us")
    if quota and period and int(quota) > 0:
        yield int(quota) / int(period)


def read_text(path: Path) -> str:
    """What a file of the kernel says; empty if it cannot be read."""
    try:
        return path.read_text(encoding="ascii").strip()
    except OSError:
        return ""

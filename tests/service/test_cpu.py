"""The processors that may be used, from control groups as a kernel shows them, and from a real one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from adafocus.service.cpu import CGROUP_ROOT, usable_cores

REAL = CGROUP_ROOT / "cpu"


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))


def kernel(folder: Path, membership: str, **files: str) -> tuple[Path, Path]:
    """A root of control groups, and what says which of them this process is in."""
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (folder / "membership").write_text(membership + "\n")
    return folder / "groups", folder / "membership"


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "250000 100000"}, 3),
        ("0::/", {"cpu.max": "10000 100000"}, 1),
        ("0::/", {"cpu.max": "9900000 100000"}, 8),
        ("0::/system.slice/adafocus.service", {"system.slice/adafocus.service/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000"}, 2),
        ("0::/a/b", {"a/b/cpu.max": "100000 100000", "a/cpu.max": "200000 100000"}, 1),
        ("0::/of/the/host", {"cpu.max": "200000 100000"}, 2),
        ("0::/../..", {"cpu.max": "200000 100000"}, 2),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("1:cpu:/", {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}, 2),
        (
            "4:memory:/m\n3:cpu,cpuacct:/a\n0::/",
            {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"},
            4,
        ),
    ],
)
def test_the_smallest_quota_counts(tmp_path: Path, membership: str, files: dict[str, str], cores: int) -> None:
    assert usable_cores(*kernel(tmp_path, membership, **files)) == cores


def test_affinity_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3})
    assert usable_cores(*kernel(tmp_path, "0::/", **{"cpu.max": "400000 100000"})) == 1


def test_where_nothing_is_said_all_may_be_used(tmp_path: Path) -> None:
    assert usable_cores(tmp_path / "none", tmp_path / "nothing") == 8


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group that grants one processor."""
    folder = REAL / f"adafocus-test-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "cpu.cfs_quota_us").write_text("100000")
    except OSError as error:
        with contextlib.suppress(OSError):
            folder.rmdir()
        pytest.skip(f"control groups (v1) cannot be made here: {error}")
    yield folder
    folder.rmdir()


def test_a_real_control_group_sizes_the_pools_of_a_service(group: Path, project_root: Path) -> None:
    code = (
        "import os, pathlib, sys\n"
        "pathlib.Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from adafocus.service.cpu import usable_cores\n"
        "from adafocus.service.settings import Settings\n"
        "settings = Settings(bundle='none')\n"
        "print(usable_cores(), settings.decode_workers)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(group)], cwd=project_root, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("1 3\n", "")

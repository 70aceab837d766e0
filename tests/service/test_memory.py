from __future__ import annotations

import resource
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from adafocus.service.memory import limited_growth, usable_memory_bytes
from adafocus.service.settings import SMALLEST_DECODE_MEMORY_BYTES, default_decode_memory_bytes
from tests.service.test_cpu import kernel


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/", {"memory.max": "1000000"}, 1_000_000),
        ("0::/a/b", {"memory.max": "max", "a/memory.max": "500000", "a/b/memory.max": "900000"}, 500_000),
        (
            "4:memory:/x\n0::/",
            {"memory/memory.limit_in_bytes": "9223372036854771712", "memory/x/memory.limit_in_bytes": "7"},
            7,
        ),
    ],
)
def test_the_smallest_limit_counts(tmp_path: Path, membership: str, files: dict[str, str], limit: int) -> None:
    assert usable_memory_bytes(*kernel(tmp_path, membership, **files)) == limit


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    assert usable_memory_bytes(*kernel(tmp_path, "0::/", **{"memory.max": "max"})) > 1 << 20


@pytest.mark.parametrize(("gigabytes", "each"), [(1, (1 << 30) // 5), (3, (3 << 30) // 5), (64, 1 << 30)])
def test_decoders_fit_into_a_container(monkeypatch: pytest.MonkeyPatch, gigabytes: int, each: int) -> None:
    monkeypatch.setattr("adafocus.service.settings.usable_memory_bytes", lambda: gigabytes << 30)
    monkeypatch.setattr("adafocus.service.settings.usable_cores", lambda: 2)
    assert default_decode_memory_bytes() == max(each, SMALLEST_DECODE_MEMORY_BYTES)


def test_growth_is_limited_in_the_block_and_not_after_it() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_growth(64 << 20), pytest.raises(MemoryError):
        np.empty(16 << 30, dtype=np.uint8)  # more than any memory that this process has freed and keeps
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert np.ones(256 << 20, dtype=np.uint8)[-1] == 1


def test_limits_of_several_threads_do_not_mix() -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)

    def limited() -> None:
        for _ in range(20):
            with limited_growth(1 << 30):
                pass

    threads = [Thread(target=limited) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert resource.getrlimit(resource.RLIMIT_DATA) == before

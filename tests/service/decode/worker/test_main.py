"""A worker process, seen from outside."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import psutil
import pytest
from av.error import err_check

from adafocus.service.decode.worker.kept_video import _forget_stashed_error
from tests.service.decode.factory import clip, pool_of

ROOT = Path(__file__).parents[4]
HEAVY = ("torch", "onnxruntime", "fastapi", "starlette", "uvicorn", "pydantic", "prometheus_client", "asyncio")


def test_it_imports_nothing_that_it_does_not_need() -> None:
    script = (
        "import sys; from adafocus.service.decode.worker import main as worker; worker.import_everything(); "
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.fixture
def inheritable() -> Iterator[int]:
    """A descriptor of this process that a child would inherit if it were let."""
    fd = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(fd, True)
    yield fd
    os.close(fd)


def open_files(pid: int) -> list[str]:
    return [str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()]


async def test_it_inherits_no_secret_and_no_descriptor(monkeypatch: pytest.MonkeyPatch, inheritable: int) -> None:
    monkeypatch.setenv("ADAFOCUS_API_KEYS", "secret")
    async with pool_of() as pool:
        (pid,) = pool.pids
        worker = psutil.Process(pid)
        assert not any(name.startswith("ADAFOCUS") for name in worker.environ())
        assert worker.num_threads() == 1
        files = open_files(pid)
    assert {file.partition(":")[0] for file in files} == {os.devnull, "socket"}
    assert sum(file.startswith("socket:") for file in files) == 1
    assert len(files) == 3 + 1, "the standard three and the socket"


class Sulking(io.BytesIO):
    """A file that at some point no longer tells its size."""

    sulks = False

    def seek(self, offset: int, whence: int = 0, /) -> int:
        if whence == os.SEEK_END and self.sulks:
            raise KeyError("left behind")
        return super().seek(offset, whence)


def test_an_error_that_a_reader_left_behind_meets_no_other_video() -> None:
    file = Sulking(clip())
    with av.open(file) as container:
        file.sulks = True
        assert container.size <= 0  # the error is dropped, one would think
        with pytest.raises(KeyError):
            err_check(0)
        assert container.size <= 0
        _forget_stashed_error()
        err_check(0)


def test_it_does_not_outlive_the_service() -> None:
    script = """
import asyncio
from adafocus.service.decode.pool import DecodePool, PoolSettings

async def main():
    async with DecodePool(PoolSettings(workers=2, crop=56)) as pool:
        print(*pool.pids, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT) as service:
        assert service.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in service.stdout.readline().split()]
        assert len(workers) == 2
        service.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def oom_score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


async def test_the_kernel_ends_it_before_the_service_when_memory_runs_out() -> None:
    async with pool_of() as pool:
        (pid,) = pool.pids
        assert oom_score(pid) > oom_score(os.getpid())

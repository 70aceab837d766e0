"""What is asked of CUDA's library, by a library that notes it."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest

from adafocus.service.engine.runners import cuda_copies
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.runners.cuda_copies import CudaCopies


class Library:
    """Notes calls by name; a call whose name is in ``fails`` returns an error."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.fails: set[str] = set()
        for name in ("Malloc", "HostRegister", "HostUnregister", "MemcpyAsync", "StreamSynchronize"):
            setattr(self, f"cuda{name}", self._function(f"cuda{name}"))
        self.cudaStreamCreateWithFlags = self._function("cudaStreamCreateWithFlags")

    def _function(self, name: str) -> Callable[..., int]:
        def call(*arguments: object) -> int:
            self.calls.append((name, *(given for given in arguments if isinstance(given, int))))
            return 2 if name in self.fails else 0

        return call


@pytest.fixture
def library() -> Library:
    return Library()


def test_copies_go_to_a_stream_and_memory_is_let_go_of_when_they_are_done(library: Library) -> None:
    copies = CudaCopies(library)  # type: ignore[arg-type]  # as far as it is used
    copies.register(4096, 100)
    assert copies.copy(8192, 4096, 100) == 0
    copies.copy_within(1, 8192, 100)
    copies.unregister(4096)
    assert library.calls == [
        ("cudaStreamCreateWithFlags", 1),
        ("cudaHostRegister", 4096, 100, 0),
        ("cudaMemcpyAsync", 8192, 4096, 100, 1),
        ("cudaMemcpyAsync", 1, 8192, 100, 3),
        ("cudaStreamSynchronize",),
        ("cudaStreamSynchronize",),
        ("cudaHostUnregister", 4096),
    ]


def test_errors_have_the_call_and_the_number(library: Library) -> None:
    copies = CudaCopies(library)  # type: ignore[arg-type]
    library.fails = {"cudaHostRegister", "cudaMemcpyAsync", "cudaMalloc"}
    with pytest.raises(RunnerError, match="cudaHostRegister failed with CUDA error 2"):
        copies.register(4096, 100)
    with pytest.raises(RunnerError, match="cudaMalloc"):
        copies.allocate(10)
    assert copies.copy(1, 2, 3) == 2


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> ctypes.CDLL:
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(RunnerError, match=r"libcudart\.so\.13"):
        cuda_copies.open_copies()

"""Arrays on huge pages, for memory that is written all the time."""

from __future__ import annotations

import math
import mmap
from contextlib import suppress
from typing import TypeVar

import numpy as np
import numpy.typing as npt

HUGE_PAGE_BYTES = 1 << 21

ScalarT = TypeVar("ScalarT", bound=np.generic)


def zeros(shape: tuple[int, ...], dtype: type[ScalarT], *, resident: bool = False) -> npt.NDArray[ScalarT]:
    """Zeros at an address that is a multiple of a huge page, on huge pages where the system has them.

    The system gives memory when it is first written, which takes a fraction of a millisecond for a huge page. With
    ``resident`` it is written here, and not while the first videos wait.

    A frame of 224 pixels is 37 ordinary pages, and copying into those took twice to three times as long in a virtual
    machine. NumPy asks for huge pages only for large arrays, and does not align them.
    """
    count = math.prod(shape) * np.dtype(dtype).itemsize
    memory = mmap.mmap(-1, max(1, count) + HUGE_PAGE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError, AttributeError):  # this system has none
        memory.madvise(mmap.MADV_HUGEPAGE)
    everything = np.frombuffer(memory, dtype=np.uint8)
    start = -everything.ctypes.data % HUGE_PAGE_BYTES
    array = everything[start : start + count].view(dtype).reshape(shape)
    if resident:
        array.fill(0)
    return array

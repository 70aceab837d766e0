"""Memory that a runtime has freed and the C library still holds."""

from __future__ import annotations

import ctypes


def return_freed_memory() -> None:
    """Give freed memory back to the system: loading a model takes, for a moment, about twice what it keeps."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU libc has it
    if trim is not None:
        trim(0)

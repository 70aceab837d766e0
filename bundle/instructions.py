"""Instructions of this processor that decide how exact and how fast reduced precisions are.

Both sides of a bundle use it, so that int8 graphs compute the same numbers where they are verified and where they are
served.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_INT8_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
_BF16_DOT_PRODUCTS = frozenset({"avx512_bf16", "amx_bf16"})

PRECISE_INT8 = "session.x64quantprecision"
"""ONNX Runtime's session entry that replaces products of unsigned and signed bytes by products of unsigned bytes."""


def onnx_session_entries(cpuinfo: Path = CPUINFO) -> Mapping[str, str]:
    """Entries that every ONNX Runtime session needs on this processor, by name; graphs in fp32 are not affected.

    Without 8-bit dot products, ONNX Runtime's kernels for x86-64 add pairs of products in 16 bits, which saturate:
    int8 graphs give wrong answers without an error. `PRECISE_INT8` selects kernels that do not. It is not set where
    there are dot products: they are exact, and the entry would turn them off.
    """
    return {} if has_int8(cpuinfo) else {PRECISE_INT8: "1"}


def has_int8(cpuinfo: Path = CPUINFO) -> bool:
    """True if the processor has dot products of 8-bit numbers: exact, and they make int8 the fastest precision."""
    return bool(_INT8_DOT_PRODUCTS & features(cpuinfo))


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """True if the processor has dot products of bfloat16 numbers."""
    return bool(_BF16_DOT_PRODUCTS & features(cpuinfo))


def features(cpuinfo: Path = CPUINFO) -> frozenset[str]:
    """Flags of the first processor that is listed; none where the system lists none."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()

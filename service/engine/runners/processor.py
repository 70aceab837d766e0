"""What the processor can do, as far as it decides which precision pays."""

from __future__ import annotations

from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")

_INT8_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})
_BF16_DOT_PRODUCTS = frozenset({"avx512_bf16", "amx_bf16"})


def has_int8(cpuinfo: Path = CPUINFO) -> bool:
    """Whether it multiplies and adds 8-bit numbers without saturating: without that int8 is slower, and less exact."""
    return bool(_INT8_DOT_PRODUCTS & features(cpuinfo))


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether it multiplies and adds bfloat16 numbers."""
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

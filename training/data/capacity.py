"""Compares the space that a training needs for its clips, on disk and in memory, with the free space.

The result is reported before anything is decoded, so that a training does not fail after hours on a full disk.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import CropPlan
from adafocus.training.data.frame_store import missing
from adafocus.training.errors import DataError

QUALITIES = (1, 50, 75, 85, 90, 95, 98, 100)
BYTES_PER_PIXEL = (0.06, 0.2, 0.3, 0.4, 0.5, 0.7, 1.0, 1.6)
"""Bytes of a JPEG per pixel at these qualities, measured on small, detailed frames by `benchmarks.jpeg_cache`."""
SIDES = (128, 360)
SHARES = (1.0, 0.55)
"""Size of frames with these sides relative to that: larger frames are smoother. On quiet indoor scenes it was 0.4."""

BATCHES = 3
"""Number of batches in memory: one is trained on, one waits, one is being made."""

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


def bytes_of_clip(plan: CropPlan) -> int:
    """Return the bytes that the kept frames of one clip take; an estimate for JPEG."""
    frames = plan.segments * max(1, plan.candidates)
    each = 3.0
    if plan.jpeg_quality:
        each = float(np.interp(plan.jpeg_quality, QUALITIES, BYTES_PER_PIXEL) * np.interp(plan.crop, SIDES, SHARES))
    return round(frames * plan.crop**2 * each)


def bytes_of_batches(plan: CropPlan, batch_size: int, frame_size: int) -> int:
    """Return the bytes of all batches in memory: decoded squares, and the model's input in float32."""
    return BATCHES * batch_size * plan.segments * (3 * plan.crop**2 + 12 * frame_size**2)


def bytes_to_keep(clips: Sequence[Clip], plan: CropPlan, cache: Path | None) -> int:
    """Return the bytes needed to keep the frames of these clips, without those that the cache holds already."""
    number = len(clips) if cache is None else sum(1 for _ in missing(clips, plan, cache))
    return number * bytes_of_clip(plan)


def free_disk(folder: Path) -> int:
    """Return the bytes that may be written below a folder, which need not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def free_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Return the bytes of memory that this process may still take; None where the system does not tell.

    It is the machine's available memory or the rest of the control group's limit, whichever is less.
    """
    found = [value for value in (_available(proc / "meminfo"), *_left_in_groups(proc, cgroups)) if value is not None]
    return min(found, default=None)


def _available(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _left_in_groups(proc: Path, cgroups: Path) -> list[int | None]:
    """Return the bytes that the limit of each control group above this process leaves (version 2 only)."""
    try:
        lines = (proc / "self" / "cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    own = next((line.removeprefix("0::/") for line in lines if line.startswith("0::/")), None)
    if own is None:
        return []
    place = cgroups / own
    return [_left_in_group(folder) for folder in (place, *place.parents) if folder.is_relative_to(cgroups)]


def _left_in_group(folder: Path) -> int | None:
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))  # ValueError for "max": there is no limit
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
        return max(0, limit - used + int(stat.get("inactive_file", 0)))  # cached files can be reclaimed
    except (OSError, ValueError):
        return None


def in_words(size: float) -> str:
    """Return a size as people write it: ``63.1 GB``, ``373 MB``."""
    if size >= 1e12:
        return f"{size / 1e12:.1f} TB"
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(1, round(size / 1e6))} MB"


def require_disk(size: int, cache: Path, what: str, help_: str) -> str:
    """Return a phrase with what is needed and free on disk.

    Raises:
        DataError: there is not enough space; the message ends with ``help_``.
    """
    free = free_disk(cache)
    if size > free:
        raise DataError(f"{what} need about {in_words(size)} in {cache}, which has {in_words(free)} free; {help_}")
    return f"about {in_words(size)} in {cache} ({in_words(free)} free)" if size else f"nothing more in {cache}"


def require_memory(size: int, what: str, help_: str, free: Callable[[], int | None] = free_memory) -> str:
    """Return a phrase with what is needed and available in memory.

    Raises:
        DataError: there is not as much; the message ends with ``help_``.
    """
    available = free()
    if available is None:
        return f"about {in_words(size)} of memory"
    if size > available:
        raise DataError(
            f"{what} need about {in_words(size)} of memory, of which {in_words(available)} are available; {help_}"
        )
    return f"about {in_words(size)} of memory ({in_words(available)} available)"

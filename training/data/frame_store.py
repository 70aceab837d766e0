"""Decoded frames as they are kept, in memory or on disk: raw pixels, or JPEG.

JPEG takes a fifth of the size of raw pixels (docs/training.md has the measurement). Chroma is not subsampled: that
would cost more error than it saves in size. Only training crops are kept this way; what is evaluated stays exact.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path
from typing import Generic, Protocol, TypeVar, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import CropPlan
from adafocus.training.errors import DataError

Pixels = npt.NDArray[np.uint8]
Indices = npt.NDArray[np.int64]

_Item = TypeVar("_Item")


class Frames(Protocol):
    """The kept frames of one clip."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def __getitem__(self, places: Indices, /) -> Pixels:
        """Return the frames at these places, uint8 [K, S, S, 3]."""
        ...


class JpegFrames:
    """Frames as JPEG, one after the other in one buffer, decoded when they are asked for."""

    def __init__(self, data: bytes | memoryview | npt.NDArray[np.uint8], ends: Indices) -> None:
        """Take the buffer, and where each frame ends in it."""
        self._data, self.ends = data, ends

    @classmethod
    def encode(cls, pixels: Pixels, quality: int) -> JpegFrames:
        """Encode uint8 [K, S, S, 3] with a quality of 1 to 100."""
        buffer = io.BytesIO()
        ends = []
        for frame in pixels:
            Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling=0)
            ends.append(buffer.tell())
        return cls(buffer.getvalue(), np.array(ends, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, places: Indices, /) -> Pixels:
        return np.stack([self._decode(int(place)) for place in places])

    def _decode(self, place: int) -> Pixels:
        start = int(self.ends[place - 1]) if place else 0
        data = bytes(self._data[start : int(self.ends[place])])
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError) as error:
            raise DataError(f"a kept frame cannot be decoded: {error}") from error

    def to_array(self) -> Pixels:
        """Return all of it as one array of bytes: the number of frames, where each ends, and the JPEG data."""
        head = np.array([len(self.ends), *self.ends], dtype="<i8")
        return np.concatenate([head.view(np.uint8), np.frombuffer(self._data, dtype=np.uint8)])

    @classmethod
    def from_array(cls, whole: Pixels) -> JpegFrames:
        """Return the frames in an array that `to_array` made.

        Raises:
            ValueError: the array is of another kind, or damaged.
        """
        count = int(whole[:8].view("<i8")[0])
        start = 8 * (count + 1)
        if count < 1 or start > len(whole):
            raise ValueError("it does not hold frames")
        ends = np.array(whole[8:start].view("<i8"), dtype=np.int64)
        if len(whole) != start + ends[-1]:
            raise ValueError("it is cut short")
        return cls(whole[start:], ends)


def keep_in_memory(pixels: Pixels, plan: CropPlan) -> Frames:
    """Return the frames of a clip in the form in which the plan keeps them."""
    return JpegFrames.encode(pixels, plan.jpeg_quality) if plan.jpeg_quality else pixels


class OnDemand(Sequence[Frames], Generic[_Item]):
    """The frames of clips, each opened when it is asked for: from a file of the cache, or by decoding the clip.

    A data set may hold more clips than fit into memory, or than a process may map.
    """

    def __init__(self, items: Sequence[_Item], get: Callable[[_Item], Frames], workers: int = 1) -> None:
        """Keep the items that frames are made from, one for each clip.

        Args:
            items: files or clips.
            get: opens or decodes one.
            workers: how many are made at a time when several are asked for.
        """
        self._items, self._get, self._workers = items, get, workers

    def only(self, numbers: Sequence[int]) -> OnDemand[_Item]:
        """Return some of them."""
        return OnDemand([self._items[number] for number in numbers], self._get, self._workers)

    def and_those(self, others: OnDemand[_Item]) -> OnDemand[_Item]:
        """Return these, then others that are made in the same way."""
        return OnDemand([*self._items, *others._items], self._get, self._workers)

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Frames: ...

    @overload
    def __getitem__(self, index: slice) -> list[Frames]: ...

    def __getitem__(self, index: int | slice) -> Frames | list[Frames]:
        if not isinstance(index, slice):
            return self._get(self._items[index])
        if self._workers == 1:
            return [self._get(item) for item in self._items[index]]
        with ThreadPoolExecutor(self._workers) as pool:
            return list(pool.map(self._get, self._items[index]))


def open_file(file: Path) -> Frames:
    """Return the frames in a file of the cache.

    Raises:
        DataError: the file is missing, or damaged.
    """
    try:
        kept: Pixels = np.load(file, mmap_mode="r")
        return JpegFrames.from_array(kept) if kept.ndim == 1 else kept
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} of the cache is missing or damaged; the same command makes it again") from error


def load_pixels(file: Path) -> Pixels:
    """Return all frames in a file of the cache, uint8 [K, S, S, 3].

    Raises:
        DataError: the file is missing, or damaged.
    """
    kept = open_file(file)
    return kept[np.arange(len(kept))]


def is_whole(file: Path, plan: CropPlan) -> bool:
    """Return True if a file of the cache is there and holds frames of this plan."""
    try:
        kept = open_file(file)
    except DataError:
        return False
    if isinstance(kept, JpegFrames):
        return plan.jpeg_quality > 0
    return isinstance(kept, np.ndarray) and kept.dtype == np.uint8 and kept.shape[1:] == (plan.crop, plan.crop, 3)


def cache_file(clip: Clip, plan: CropPlan, cache: Path) -> Path:
    """Return the file in which the frames of a clip are kept, whether it exists or not."""
    *published, snap = astuple(plan)
    fields = tuple(published) if snap == "none" else (*published, snap)  # files of earlier versions are found again
    key = hashlib.sha256(repr((clip.identity, _source(clip), fields)).encode()).hexdigest()[:32]
    return cache / key[:2] / f"{key}.npy"


def save(pixels: Pixels, plan: CropPlan, file: Path) -> None:
    """Write the frames of a clip, whole or not at all."""
    kept = keep_in_memory(pixels, plan)
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{file.stem}.", delete=False) as stream:
        try:
            np.save(stream, kept.to_array() if isinstance(kept, JpegFrames) else pixels)
            stream.flush()
            os.fsync(stream.fileno())
            Path(stream.name).replace(file)
        except BaseException:
            Path(stream.name).unlink(missing_ok=True)
            raise


def missing(clips: Sequence[Clip], plan: CropPlan, cache: Path) -> Iterator[Clip]:
    """The clips whose frames the cache does not hold yet."""
    return (clip for clip in clips if not cache_file(clip, plan, cache).exists())


def _source(clip: Clip) -> tuple[object, ...]:
    """Return what identifies the pixels of a listed clip or a folder of images, where the clip's identity does not."""
    if not clip.listed and not clip.path.is_dir():
        return ()
    place = clip.path.resolve()
    try:
        seen = place.stat()
    except OSError:
        return (str(place),)
    return (str(place), clip.template, seen.st_size, seen.st_mtime_ns)

"""From clips to squares of pixels: decoded once through the well that serves, then kept.

Training keeps several candidate frames per step in a larger square, so that crops and moments can vary; evaluation
takes exactly what a server would: the same sampler, decoder and resizer.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from training.data.clips import Clip, ClipSet
from training.data.frames import frame_count, read_frames
from training.data.prefetch import ahead, processors
from training.errors import DataError
from training.recipe import Recipe
from video.decoder import FrameStream
from video.errors import VideoError
from video.probe import open_video
from video.sampler import sample_clip_indices, sample_indices, visiting_order, wanted_frames
from video.transform import Geometry

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class CropPlan:
    """Which frames of a clip are kept, and how large.

    Attributes:
        steps: T, frames that the model visits.
        order: how it visits them; of a clip model, its glance frames in time order.
        first_frame: frames before this index are never sampled.
        resize: shorter side after resizing, pixels. crop: side of the kept centre square.
        candidates: frames per step. With 1, frames are kept in visiting order, as served: [T, crop, crop, 3]. With
            more, in time order: [T·candidates, crop, crop, 3].
        focus_steps: frames of a clip model's focus, which follow those of its glance; 0 for a frame model.
    """

    steps: int
    order: tuple[int, ...]
    first_frame: int
    resize: int
    crop: int
    candidates: int = 1
    focus_steps: int = 0

    def wanted(self, num_frames: int) -> tuple[int, ...]:
        """Frame indices to keep of a video of so many frames."""
        if self.candidates > 1:
            parts = (self.steps, self.focus_steps) if self.focus_steps else (self.steps,)
            return tuple(index for count in parts for index in self._moments(num_frames, count))
        return wanted_frames(
            num_frames,
            frames=self.steps,
            order=self.order,
            first_frame=self.first_frame,
            focus_frames=self.focus_steps or None,
        )

    def _moments(self, num_frames: int, count: int) -> list[int]:
        """The candidates of each of ``count`` steps, in time order; a clip too short to choose gives none."""
        first = min(self.first_frame, num_frames - 1)
        usable = num_frames - first
        if usable <= count:
            sample = sample_clip_indices if self.focus_steps else sample_indices
            return [index for index in sample(num_frames, count, self.first_frame) for _ in range(self.candidates)]
        pieces = count * self.candidates
        if usable > pieces:
            return list(sample_indices(num_frames, pieces, self.first_frame))
        return [first + (2 * piece + 1) * usable // (2 * pieces) for piece in range(pieces)]


def serving_plan(recipe: Recipe) -> CropPlan:
    """What a server would see."""
    config = recipe.model_config(2)
    clip = config.kind == "clip"
    steps = config.glance_frames if clip else config.steps
    order = visiting_order(steps, "sequential" if clip else config.frame_order)
    return CropPlan(
        steps=steps,
        order=order,
        first_frame=recipe.data.first_frame,
        resize=recipe.data.resize,
        crop=config.frame_size,
        focus_steps=config.focus_frames if clip else 0,
    )


def training_plan(recipe: Recipe) -> CropPlan:
    """What training crops are cut from: the centre square whole, at the source size."""
    served = serving_plan(recipe)
    source = recipe.data.source
    return replace(served, resize=source, crop=source, candidates=max(2, recipe.data.candidates))


def decode_clip(clip: Clip, plan: CropPlan) -> Pixels:
    """The planned frames of a clip: ``uint8 [K, crop, crop, 3]``. A lost frame is replaced by its neighbour.

    Raises:
        VideoError: the file is no usable video.
        DataError: the folder of images is not usable.
        OSError: it cannot be read.
    """
    geometry = Geometry(plan.resize, plan.crop)
    if clip.template or clip.path.is_dir():
        wanted = plan.wanted(frame_count(clip))
        have = read_frames(clip, set(wanted), geometry)
    else:
        wanted, have = _decode_video(clip.path, plan, geometry)
    nearest = [min(have, key=lambda index, want=want: (abs(index - want), index)) for want in wanted]  # type: ignore[misc]
    return np.stack([have[index] for index in nearest])


def _decode_video(path: Path, plan: CropPlan, geometry: Geometry) -> tuple[tuple[int, ...], dict[int, Pixels]]:
    with path.open("rb") as file, open_video(file) as video:
        if not video.info.frames:
            raise DataError("the video does not tell how many frames it has")
        wanted = plan.wanted(video.info.frames)
        stream = FrameStream(video, wanted, geometry)
        have = {}
        while (frame := stream.next()) is not None:
            have[frame.index] = frame.pixels
        stream.close()
    return wanted, have


@dataclass(frozen=True)
class Broken:
    """A clip that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Crops:
    """Decoded clips, of which some may be moved to others.

    Attributes:
        data: the clips that could be decoded.
        pixels: for each of them ``uint8 [K, crop, crop, 3]``; a memory map if they are kept on disk.
        broken: the others.
    """

    data: ClipSet
    pixels: Sequence[Pixels]
    broken: tuple[Broken, ...]

    def without(self, identities: Collection[str]) -> Crops:
        """All but these clips."""
        kept = [number for number, clip in enumerate(self.data.clips) if clip.identity not in identities]
        pixels = self.pixels.only(kept) if isinstance(self.pixels, _OnDisk) else [self.pixels[n] for n in kept]
        return Crops(self.data.only(self.data.clips[number] for number in kept), pixels, self.broken)

    def and_those(self, others: Crops) -> Crops:
        """These clips, then those of others, which were kept in the same way."""
        pixels: Sequence[Pixels] = [*self.pixels, *others.pixels]
        if isinstance(self.pixels, _OnDisk) and isinstance(others.pixels, _OnDisk):
            pixels = self.pixels.and_those(others.pixels)
        return Crops(self.data.only(self.data.clips + others.data.clips), pixels, self.broken + others.broken)


class _OnDisk(Sequence[Pixels]):
    """Crops in files, mapped when they are asked for: a data set may hold more clips than a process may map."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = files

    def only(self, numbers: Sequence[int]) -> _OnDisk:
        """Some of them."""
        return _OnDisk([self._files[number] for number in numbers])

    def and_those(self, others: _OnDisk) -> _OnDisk:
        """These, then others."""
        return _OnDisk([*self._files, *others._files])

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Pixels: ...

    @overload
    def __getitem__(self, index: slice) -> list[Pixels]: ...

    def __getitem__(self, index: int | slice) -> Pixels | list[Pixels]:
        if isinstance(index, slice):
            return [_mapped(file) for file in self._files[index]]
        return _mapped(self._files[index])


def _mapped(file: Path) -> Pixels:
    """Crops as they were kept.

    Raises:
        DataError: the file is gone, or not whole.
    """
    try:
        kept: Pixels = np.load(file, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{file} of the cache is gone or damaged; the same command again makes it anew") from error
    return kept


def _is_whole(file: Path, plan: CropPlan) -> bool:
    try:
        kept = _mapped(file)
    except DataError:
        return False
    return kept.dtype == np.uint8 and kept.ndim == 4 and kept.shape[1:] == (plan.crop, plan.crop, 3)


def decode_all(
    data: ClipSet,
    plan: CropPlan,
    cache: Path | None = None,
    report: Callable[[Broken], None] | None = None,
    check: Callable[[], None] = lambda: None,
) -> Crops:
    """Decode every clip once, in memory or, with ``cache``, in files that later runs find again.

    As many clips at a time as there are processors. A clip that cannot be decoded is reported and left out.

    Args:
        data: the clips.
        plan: which of their frames are kept, and how large.
        cache: folder for files of decoded crops.
        report: told of each clip that cannot be decoded.
        check: called after each clip; may raise to stop.

    Raises:
        DataError: not one clip could be decoded.
    """

    def decode(clip: Clip) -> Pixels | Path | Broken:
        try:
            return _cached(clip, plan, cache) if cache else decode_clip(clip, plan)
        except (VideoError, DataError, OSError) as error:
            return Broken(clip.path, str(error))

    good: list[Clip] = []
    pixels: list[Pixels] = []
    files: list[Path] = []
    broken: list[Broken] = []
    workers = processors()
    with ThreadPoolExecutor(workers) as pool:
        decoded = zip(data.clips, ahead(pool, decode, data.clips, depth=2 * workers), strict=True)
        hidden = not sys.stderr.isatty()
        for clip, made in tqdm(
            decoded, total=len(data.clips), unit="clip", desc="decoding", disable=hidden, leave=False, delay=1
        ):
            check()
            if isinstance(made, Broken):
                broken.append(made)
                if report is not None:
                    report(made)
                continue
            good.append(clip)
            if isinstance(made, Path):
                files.append(made)
            else:
                pixels.append(made)
    if not good:
        raise DataError(f"not one of {len(data.clips)} clips can be decoded; the first: {broken[0].reason}")
    return Crops(data.only(good), _OnDisk(files) if cache else pixels, tuple(broken))


def _cached(clip: Clip, plan: CropPlan, cache: Path) -> Path:
    """The file with a clip's crops, made if it is not there or not whole."""
    key = hashlib.sha256(repr((clip.identity, _source(clip), astuple(plan))).encode()).hexdigest()[:32]
    file = cache / key[:2] / f"{key}.npy"
    if not _is_whole(file, plan):
        pixels = decode_clip(clip, plan)
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, prefix=f".{key}.", delete=False) as stream:
            try:
                np.save(stream, pixels)
                stream.flush()
                os.fsync(stream.fileno())
                Path(stream.name).replace(file)
            except BaseException:
                Path(stream.name).unlink(missing_ok=True)
                raise
    return file


def _source(clip: Clip) -> tuple[object, ...]:
    """What tells a clip's pixels where its identity does not: of a listed clip, and of a folder of images."""
    if not clip.listed and not clip.path.is_dir():
        return ()
    place = clip.path.resolve()
    try:
        seen = place.stat()
    except OSError:
        return (str(place),)
    return (str(place), clip.template, seen.st_size, seen.st_mtime_ns)

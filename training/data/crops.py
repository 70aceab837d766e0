"""From clips to squares of pixels, through the decoder and resizer that serve.

Training draws from several moments of each segment in a larger square, so that moments and crops can vary; evaluation
takes exactly what a server would: the same sampler, decoder and resizer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from adafocus.training.data.clips import Clip, ClipSet
from adafocus.training.data.crop_plan import CropPlan
from adafocus.training.data.frame_store import (
    Frames,
    OnDemand,
    Pixels,
    cache_file,
    is_whole,
    keep_in_memory,
    open_file,
    save,
)
from adafocus.training.data.image_folders import frame_count, read_frames
from adafocus.training.data.prefetch import ahead, processors
from adafocus.training.errors import DataError
from adafocus.video.decoder import FrameStream
from adafocus.video.errors import VideoError
from adafocus.video.probe import open_video
from adafocus.video.transform import Geometry

UNUSABLE = (VideoError, DataError, OSError)
"""Exceptions of decoding that mean that the clip is at fault."""

Choice = Callable[[int, Sequence[int]], Sequence[int]]
"""Returns the frames to decode, given the number of frames of a video and its key frames."""


def decode_clip(clip: Clip, plan: CropPlan, random: np.random.Generator | None = None) -> Pixels:
    """Return frames of a clip: ``uint8 [K, crop, crop, 3]``. A lost frame is replaced by its neighbour.

    Args:
        clip: a video, or a folder of images.
        plan: which of its frames, and how large.
        random: draws a frame of each segment; None takes those that the plan keeps.

    Raises:
        VideoError: the file is no usable video.
        DataError: the folder of images is not usable.
        OSError: it cannot be read.
    """
    geometry = Geometry(plan.resize, plan.crop, plan.fit)

    def choose(frames: int, key_frames: Sequence[int] = ()) -> Sequence[int]:
        return plan.wanted(frames, key_frames) if random is None else plan.draw(frames, random)

    if clip.template or clip.path.is_dir():
        wanted = choose(frame_count(clip))
        have = read_frames(clip, set(wanted), geometry)
    else:
        wanted, have = _decode_video(clip.path, choose, geometry)
    nearest = [min((abs(index - want), index) for index in have)[1] for want in wanted]
    return np.stack([have[index] for index in nearest])


def _decode_video(path: Path, choose: Choice, geometry: Geometry) -> tuple[Sequence[int], dict[int, Pixels]]:
    with path.open("rb") as file, open_video(file) as video:
        if not video.info.frames:
            raise DataError("the video does not tell how many frames it has")
        wanted = choose(video.info.frames, video.index.key_frames)
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


def _decoded_each_time(clips: Sequence[Clip], plan: CropPlan) -> OnDemand[Clip]:
    """The frames of clips, none of which is kept."""

    def decode(clip: Clip) -> Pixels:
        try:
            return decode_clip(clip, plan)
        except UNUSABLE as error:
            raise DataError(f"{clip.path} cannot be decoded any more: {error}") from error

    return OnDemand(clips, decode, processors())


@dataclass(frozen=True)
class Crops:
    """Clips that can be decoded.

    Attributes:
        data: the clips.
        pixels: for each of them the frames that its plan keeps: in memory, on disk, or decoded when asked for.
        broken: the clips that cannot be decoded.
    """

    data: ClipSet
    pixels: Sequence[Frames]
    broken: tuple[Broken, ...]

    def without(self, identities: Collection[str]) -> Crops:
        """Return all but these clips."""
        kept = [number for number, clip in enumerate(self.data.clips) if clip.identity not in identities]
        pixels: Sequence[Frames]
        if isinstance(self.pixels, OnDemand):
            pixels = self.pixels.only(kept)
        else:
            pixels = [self.pixels[number] for number in kept]
        return Crops(self.data.only(self.data.clips[number] for number in kept), pixels, self.broken)

    def and_those(self, others: Crops) -> Crops:
        """Return these clips, then those of others, which are kept in the same way."""
        pixels: Sequence[Frames]
        if isinstance(self.pixels, OnDemand) and isinstance(others.pixels, OnDemand):
            pixels = self.pixels.and_those(others.pixels)
        else:
            pixels = [*self.pixels, *others.pixels]
        return Crops(self.data.only(self.data.clips + others.data.clips), pixels, self.broken + others.broken)


def decode_each(
    data: ClipSet,
    plan: CropPlan,
    cache: Path | None = None,
    check: Callable[[], None] = lambda: None,
    work: str = "decoding",
) -> Iterator[tuple[Clip, Pixels | Path | Broken]]:
    """Decode every clip, as many at a time as there are processors, and yield them in their order.

    Args:
        data: the clips.
        plan: which of their frames, and how large.
        cache: folder for files of decoded frames; what is yielded is then the file, which is only made if need be.
        check: called after each clip; may raise to stop.
        work: what the progress bar says.
    """

    def decode(clip: Clip) -> Pixels | Path | Broken:
        try:
            return _cached(clip, plan, cache) if cache else decode_clip(clip, plan)
        except UNUSABLE as error:
            return Broken(clip.path, str(error))

    workers = processors()
    with ThreadPoolExecutor(workers) as pool:
        decoded = zip(data.clips, ahead(pool, decode, data.clips, depth=2 * workers), strict=True)
        hidden = not sys.stderr.isatty()
        for clip, made in tqdm(
            decoded, total=len(data.clips), unit="clip", desc=work, disable=hidden, leave=False, delay=1
        ):
            check()
            yield clip, made


def decode_all(
    data: ClipSet,
    plan: CropPlan,
    cache: Path | None = None,
    report: Callable[[Broken], None] | None = None,
    check: Callable[[], None] = lambda: None,
    *,
    keep: bool = True,
) -> Crops:
    """Decode every clip once, and keep the frames in memory or, with ``cache``, in files that later runs find again.

    A clip that cannot be decoded is reported and left out.

    Args:
        data: the clips.
        plan: which of their frames are kept, and how large.
        cache: folder for files of decoded frames.
        report: told of each clip that cannot be decoded.
        check: called after each clip; may raise to stop.
        keep: False keeps nothing: clips are only tried, and decoded again whenever they are asked for.

    Raises:
        DataError: not one clip can be decoded.
    """
    cache = cache if keep else None
    good: list[Clip] = []
    pixels: list[Frames] = []
    files: list[Path] = []
    broken: list[Broken] = []
    for clip, made in decode_each(data, plan, cache, check, "decoding" if keep else "trying clips"):
        if isinstance(made, Broken):
            broken.append(made)
            if report is not None:
                report(made)
            continue
        good.append(clip)
        if isinstance(made, Path):
            files.append(made)
        elif keep:
            pixels.append(keep_in_memory(made, plan))
    if not good:
        raise DataError(f"none of {len(data.clips)} clips can be decoded; the first: {broken[0].reason}")
    if not keep:
        return Crops(data.only(good), _decoded_each_time(good, plan), tuple(broken))
    return Crops(data.only(good), OnDemand(files, open_file) if cache else pixels, tuple(broken))


def _cached(clip: Clip, plan: CropPlan, cache: Path) -> Path:
    """Return the file with a clip's frames, made if it is missing or damaged."""
    file = cache_file(clip, plan, cache)
    if not is_whole(file, plan):
        save(decode_clip(clip, plan), plan, file)
    return file

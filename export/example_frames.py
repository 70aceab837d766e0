"""Frames to verify an export with: noise, moving texture, and real videos read the way the service reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adafocus.bundle.manifest import FrameGeometry, Sampling
from adafocus.export.errors import ExportError, reason
from adafocus.video.decoder import FrameStream
from adafocus.video.errors import VideoError
from adafocus.video.probe import open_video
from adafocus.video.sampler import wanted_frames
from adafocus.video.transform import Geometry

UInt8 = npt.NDArray[np.uint8]

SEED = 20220621


def frames_per_video(sampling: Sampling) -> int:
    """Number of frames of a video that the model sees; a clip model's focus frames come after its glance frames."""
    return sampling.frames + (sampling.focus_frames or 0)


def noise(count: int, crop: int, seed: int = SEED) -> UInt8:
    """Independent uniform pixels: ``uint8 [count, crop, crop, 3]``."""
    return np.random.default_rng(seed).integers(0, 256, (count, crop, crop, 3), dtype=np.uint8)


def texture(count: int, crop: int, seed: int = SEED) -> UInt8:
    """Waves of several lengths that drift from frame to frame: ``uint8 [count, crop, crop, 3]``."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:crop, 0:crop] / crop
    time = np.arange(count)[:, None, None] / max(count, 2)
    picture = np.zeros((count, crop, crop, 3))
    for length in (1, 2, 5, 11, 23):
        for colour in range(3):
            angle, phase, drift = random.uniform(0, 2 * np.pi, 3)
            along = x * np.cos(angle) + y * np.sin(angle)
            picture[..., colour] += np.sin(2 * np.pi * length * along + phase + drift * time) / length**0.5
    picture -= picture.min()
    return np.asarray(np.round(picture * (255 / picture.max())), dtype=np.uint8)


def real(path: Path, sampling: Sampling, geometry: FrameGeometry) -> UInt8:
    """A video's sampled frames in visiting order, ``uint8 [n, crop, crop, 3]``; a frame that is lost repeats another.

    Raises:
        ExportError: the file cannot be read as a video.
    """
    try:
        with path.open("rb") as reader, open_video(reader) as video:
            if not video.info.frames:
                raise ExportError(f"{path}: it is not known how many frames it has; verify with another video")
            wanted = wanted_frames(
                video.info.frames,
                frames=sampling.frames,
                order=sampling.order,
                first_frame=sampling.first_frame,
                focus_frames=sampling.focus_frames,
                key_frames=video.index.key_frames if sampling.snap == "keyframe" else (),
            )
            frames = _pull(FrameStream(video, wanted, Geometry(geometry.resize, geometry.crop, geometry.fit)))
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({reason(error)})") from error
    except VideoError as error:
        raise ExportError(f"{path}: {error}") from error
    first = frames[min(frames)]
    return np.stack([frames.get(position, first) for position in range(len(wanted))])


def _pull(stream: FrameStream) -> dict[int, UInt8]:
    frames = {}
    try:
        while (frame := stream.next()) is not None:
            frames[frame.position] = frame.pixels
    finally:
        stream.close()
    return frames


def verification_videos(videos: Sequence[Path], sampling: Sampling, geometry: FrameGeometry) -> list[UInt8]:
    """Noise, texture and the given videos: each ``uint8 [n, crop, crop, 3]``; two textures where none is given.

    Raises:
        ExportError: a file cannot be read as a video.
    """
    count, crop = frames_per_video(sampling), geometry.crop
    found = [real(path, sampling, geometry) for path in videos] or [texture(count, crop, SEED + 1)]
    return [noise(count, crop), texture(count, crop), *found]

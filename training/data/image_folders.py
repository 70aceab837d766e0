"""Read a folder with an image per frame as if it were a video, with the decoder and resizer of the service."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

from adafocus.training.data.clips import Clip
from adafocus.training.errors import DataError
from adafocus.video.transform import Geometry, Resizer

CODECS = {".jpg": "mjpeg", ".jpeg": "mjpeg", ".png": "png", ".bmp": "bmp", ".webp": "webp"}
"""Decoder of each kind of image."""

FEWEST = 3
"""Fewest frames of a clip in a list; the released code drops shorter ones."""


def frame_count(clip: Clip) -> int:
    """Return the number of frames of a clip that is a folder.

    Raises:
        DataError: it has too few frames, or none.
    """
    if clip.template:
        if clip.frames < FEWEST:
            raise DataError(f"it has {clip.frames} frames; clips of a list need at least {FEWEST}")
        return clip.frames
    count = len(_images(clip.path))
    if not count:
        raise DataError(f"the folder has no images ({', '.join(CODECS)})")
    return count


def read_frames(clip: Clip, indices: set[int], geometry: Geometry) -> dict[int, npt.NDArray[np.uint8]]:
    """Return some frames of a clip that is a folder, by index from 0. Frames that cannot be read are left out.

    Raises:
        DataError: none of them can be read.
    """
    resizer = Resizer(geometry.resize, geometry.crop, geometry.fit)
    images = None if clip.template else _images(clip.path)
    have = {}
    for index in sorted(indices):
        path = images[index] if images else clip.path / clip.template.format(index + 1)
        frame = _decode(path)
        if frame is not None:
            have[index] = resizer(frame)
    if not have:
        raise DataError(f"none of the {len(indices)} frames that are needed can be read")
    return have


def _images(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in CODECS and not file.name.startswith("."))


def _decode(path: Path) -> av.VideoFrame | None:
    try:
        packet = av.Packet(path.read_bytes())
        decoder = av.CodecContext.create(CODECS[path.suffix.lower()], "r")
        if not isinstance(decoder, av.VideoCodecContext):
            return None
        frames = [*decoder.decode(packet), *decoder.decode(None)]
    except (OSError, ValueError, av.FFmpegError):
        return None
    return frames[0] if frames else None

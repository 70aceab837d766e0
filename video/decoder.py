"""Wanted frames, pulled one at a time in the order in which the model visits them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import av
import numpy as np
from numpy.typing import NDArray

from video.errors import Undecodable
from video.probe import OpenVideo
from video.transform import Geometry, Resizer


@dataclass(frozen=True)
class Frame:
    """One wanted frame as the model sees it.

    Attributes:
        position: place in the visiting order, from 0.
        index: place in the video, from 0, in presentation order.
        time_s: seconds after the video's first frame; ``None`` if its timestamps cannot be believed.
        pixels: ``uint8 [crop, crop, 3]``, RGB, contiguous.
    """

    position: int
    index: int
    time_s: float | None
    pixels: NDArray[np.uint8]


class FrameStream:
    """The wanted frames of an open video, decoded no further than needed for the next one.

    A wanted frame that cannot be decoded is left out; the caller sees it by the count.
    """

    def __init__(self, video: OpenVideo, wanted: Sequence[int], geometry: Geometry) -> None:
        """Decodes nothing yet.

        Args:
            video: opened, and used for nothing else.
            wanted: frame index per visited position, as ``sampler.wanted_frames`` gives them.
            geometry: of the square that the model sees.
        """
        self._video = video
        self._wanted = tuple(wanted)
        self._position = 0
        self._resizer = Resizer(geometry.resize, geometry.crop)
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._needed = set(wanted)
        self._shown = 0
        self._ended = False
        self._given = 0
        index = video.index
        times = index.pts[index.order]
        self._ranks = {int(pts): rank for rank, pts in enumerate(times)} if index.timed else {}
        self._times = times
        self._take(video.ahead)
        video.ahead = []

    @property
    def frames_decoded(self) -> int:
        """Frames handed to the decoder since the video was opened, its first one included."""
        return self._video.cursor.decoded

    def next(self) -> Frame | None:
        """The next wanted frame in visiting order; ``None`` when there is nothing more.

        Raises:
            Undecodable: at the end, if not a single wanted frame could be had.
            TooManyPixels: the video grew over the limits midway.
        """
        while self._position < len(self._wanted):
            index = self._wanted[self._position]
            while index not in self._kept and not self._ended:
                step = self._video.cursor.step()
                self._ended = step is None
                if step is not None:
                    self._take(step.frames)
            position, self._position = self._position, self._position + 1
            if index in self._kept:
                self._given += 1
                return Frame(position, index, self._time(index), self._kept[index])
        if not self._given:
            raise Undecodable("none of the wanted frames of the video can be decoded")
        return None

    def close(self) -> None:
        """Decodes nothing more."""
        self._position = len(self._wanted)
        self._kept.clear()
        self._given = max(self._given, 1)

    def _take(self, frames: list[av.VideoFrame]) -> None:
        for frame in frames:
            rank = self._ranks.get(frame.pts, -1) if self._ranks and frame.pts is not None else self._shown
            self._shown += 1
            if rank in self._needed and not frame.is_corrupt:
                rotation = round(-frame.rotation / 90) * 90 % 360
                self._kept[rank] = self._resizer(frame, rotation)
                self._needed.discard(rank)

    def _time(self, index: int) -> float | None:
        video = self._video
        if not video.index.timed:
            return None
        return float((int(self._times[index]) - int(self._times[0])) * video.time_base)

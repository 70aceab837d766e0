"""What is known of every frame of a file before one is decoded, and what follows from it. Pure.

`index.py` reads it from the packets, `announced.py` from a table at the head of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

UNKNOWN_TIME = -(2**63)
"""Stands for a time that a packet does not have: the least int64."""


@dataclass(frozen=True)
class FrameIndex:
    """The packets of a file in decode order, and which of them shows which frame.

    Attributes:
        timed: whether the presentation times can be believed: there for every frame and all different. If not, frames
            can only be counted as they come out of the decoder.
        pts: presentation time of each packet, units of the stream's time base; or ``UNKNOWN_TIME``.
        dts: decoding time, likewise.
        sizes: bytes of each packet; with its time, what tells it from another after a seek.
        keys: packets, by number in decode order, that decoding can start from, ascending; always holds 0.
        order: ``order[i]`` is the packet that shows frame i in presentation order.
        seconds: from the first frame to the end of the last; ``None`` if not timed.
    """

    timed: bool
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: NDArray[np.int64]
    order: NDArray[np.int64]
    seconds: float | None

    @property
    def packets(self) -> int:
        """Packets in the file: what one scan decodes."""
        return len(self.pts)

    @property
    def frames(self) -> int:
        """Frames that the file shows."""
        return len(self.order)


def index_of(
    pts: NDArray[np.int64],
    dts: NDArray[np.int64],
    sizes: NDArray[np.int64],
    keys: NDArray[np.int64],
    shown: NDArray[np.int64],
    last_duration: int,
    time_base: Fraction,
) -> FrameIndex:
    """The index of packets with these properties. Pure.

    Args:
        pts: as `FrameIndex` has it; so are ``dts``, ``sizes`` and ``keys``.
        dts: likewise.
        sizes: likewise.
        keys: likewise.
        shown: packets that show a frame, ascending; at least one.
        last_duration: how long the frame that is shown last stays, units of the time base; 0 if unknown.
        time_base: seconds per unit.
    """
    times = pts[shown]
    order = shown[np.argsort(times, kind="stable")]
    timed = bool(times.min() != UNKNOWN_TIME and len(np.unique(times)) == len(times))
    seconds = None
    if timed:
        span = int(times.max()) - int(times.min())
        last = last_duration or (round(span / (len(times) - 1)) if len(times) > 1 else 0)
        seconds = float((span + last) * time_base)
    return FrameIndex(
        timed=timed,
        pts=pts,
        dts=dts,
        sizes=sizes,
        keys=keys,
        order=order if timed else shown,
        seconds=seconds,
    )

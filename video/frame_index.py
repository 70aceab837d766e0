"""The index of a file: facts about every frame before one is decoded, and what follows from them. Pure.

`index.py` collects it from the packets, `mp4_index.py` from the tables at the head of a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from adafocus.video.clock import UNKNOWN_TIME, Clock, OneClock, continuous, display_times, is_known, without_strays

__all__ = ["UNKNOWN_TIME", "FrameIndex", "PacketTable", "StreamTraits", "build_index"]

_HIDDEN = -1
_REORDERING = frozenset({"h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "wmv3"})


@dataclass(frozen=True)
class FrameIndex:
    """The packets of a file in decode order, and which of them shows which frame.

    Attributes:
        ordered: whether it is known which packet shows which frame. If not, frames can only be counted as they come
            out of the decoder, and ``order`` and ``frame_of`` are in decode order.
        seekable: whether the container can be asked for a time. It cannot where one clock follows another and the
            demuxer does not expect that; then the file is read up to the packet.
        pts: presentation time of each packet as the container gives it, units of the stream's time base; or
            ``UNKNOWN_TIME``. Not necessarily unique, nor on one clock.
        dts: decoding time, likewise.
        sizes: bytes of each packet; with its time, what tells it from another after a seek.
        keys: packets, by number in decode order, that decoding can start from, ascending; always holds 0.
        order: ``order[i]`` is the packet that completes frame i in presentation order.
        frame_of: the frame that each packet belongs to; -1 if it shows none. Two packets may hold the two fields of
            one frame.
        times_s: seconds of each frame after the first one, ascending; ``None`` if nothing tells them. Times that
            contradict their neighbours have been repaired.
        seconds: from the first frame to the end of the last; ``None`` if ``times_s`` is.
    """

    ordered: bool
    seekable: bool
    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    keys: NDArray[np.int64]
    order: NDArray[np.int64]
    frame_of: NDArray[np.int64]
    times_s: NDArray[np.float64] | None
    seconds: float | None

    @property
    def packets(self) -> int:
        """Packets in the file: what one scan decodes."""
        return len(self.pts)

    @property
    def frames(self) -> int:
        """Frames that the file shows."""
        return len(self.order)

    @property
    def key_frames(self) -> tuple[int, ...]:
        """Frames that decoding can start from, ascending; none if it is not known which packet shows which frame."""
        if not self.ordered:
            return ()
        shown = self.frame_of[self.keys]
        return tuple(int(frame) for frame in np.unique(shown[shown != _HIDDEN]))


@dataclass(frozen=True)
class StreamTraits:
    """Facts about a stream as a whole.

    Attributes:
        time_base: seconds per unit of its times.
        codec: FFmpeg's name of the format.
        extradata: the decoder's configuration, from the container; may be empty.
        may_be_encrypted: the container can say so of a packet.
        reorders: the decoder announces that it gives pictures in another order than that of the packets.
        guesses_pts: the container stores decoding times only; FFmpeg guesses the others.
        guesses_dts: the container stores presentation times only; FFmpeg guesses the others.
        clock_may_leap: in this container a leap of the clock means another clock, not a pause.
    """

    time_base: Fraction
    codec: str = ""
    extradata: bytes = b""
    may_be_encrypted: bool = True
    reorders: bool = False
    guesses_pts: bool = False
    guesses_dts: bool = False
    clock_may_leap: bool = False

    @property
    def may_reorder(self) -> bool:
        """True if the format has pictures that are shown in another order, announced or not."""
        return self.codec in _REORDERING


@dataclass(frozen=True)
class PacketTable:
    """The packets of a stream, one row each, in decode order.

    Attributes:
        pts: as `FrameIndex` has it; so are ``dts`` and ``sizes``.
        dts: decoding time.
        sizes: bytes.
        durations: units of the time base; 0 if unknown.
        keys: packets, by number, that decoding can start from; always holds 0.
        pictures: the picture that each packet belongs to, counted in decode order from 0; -1 if it shows none.
        anchors: per picture, whether it is shown only after the next anchor has been decoded (MPEG's I and P
            pictures); ``None`` if the headers do not tell.
    """

    pts: NDArray[np.int64]
    dts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    durations: NDArray[np.int64]
    keys: NDArray[np.int64]
    pictures: NDArray[np.int64]
    anchors: NDArray[np.bool_] | None = None


def build_index(table: PacketTable, traits: StreamTraits) -> FrameIndex:
    """Builds the index of packets with these properties, at least one of which shows a picture."""
    shown = np.flatnonzero(table.pictures > _HIDDEN)
    pictures = table.pictures[shown]
    first = last = shown
    if (pictures[1:] <= pictures[:-1]).any():  # not one packet for each picture, in their order
        first = shown[np.unique(pictures, return_index=True)[1]]
        last = shown[len(pictures) - 1 - np.unique(pictures[::-1], return_index=True)[1]]
    marked = np.zeros(len(table.pictures), dtype=np.bool_)
    marked[table.keys] = True
    starts = marked[first]
    clock = Clock(traits.time_base, traits.clock_may_leap)
    dts = _of_pictures(table.dts, first, last)
    given = without_strays(_of_pictures(table.pts, first, last), dts, clock)
    guessed = traits.guesses_dts and traits.reorders
    shown_at = continuous(given, np.full_like(dts, UNKNOWN_TIME) if guessed else dts, starts, clock)
    rank = _ranks(given, dts, shown_at, table.anchors, traits)
    seekable = rank is not None and (traits.clock_may_leap or not shown_at.broken)
    times = shown_at.times
    if not is_known(times).any() or (table.anchors is not None and rank is not None and _contradicts(rank, times)):
        # The container tells decoding times only; presentation times are guessed from them, or are not there.
        times = continuous(dts, dts, starts, clock).times
    return _assemble(table, last, rank, display_times(times), traits.time_base, seekable)


def _assemble(
    table: PacketTable,
    last: NDArray[np.int64],
    rank: NDArray[np.int64] | None,
    ticks: NDArray[np.float64] | None,
    time_base: Fraction,
    seekable: bool,
) -> FrameIndex:
    ranks = np.arange(len(last)) if rank is None else rank
    order = np.empty(len(last), dtype=np.int64)
    order[ranks] = last
    frame_of = np.where(table.pictures > _HIDDEN, ranks[np.maximum(table.pictures, 0)], _HIDDEN)
    times_s = seconds = None
    if ticks is not None:
        times_s = (ticks - ticks[0]) * time_base.numerator / time_base.denominator
        span = float(ticks[-1] - ticks[0])
        final = table.durations[frame_of == len(last) - 1]
        # Fields are given half a frame's duration, or all of it.
        stay = (int(final[0]) if len(final) == 1 else 0) or (round(span / (len(ticks) - 1)) if len(ticks) > 1 else 0)
        seconds = float((Fraction(span) + stay) * time_base)
    return FrameIndex(
        ordered=rank is not None,
        seekable=seekable,
        pts=table.pts,
        dts=table.dts,
        sizes=table.sizes,
        keys=table.keys,
        order=order,
        frame_of=frame_of,
        times_s=times_s,
        seconds=seconds,
    )


def _of_pictures(times: NDArray[np.int64], first: NDArray[np.int64], last: NDArray[np.int64]) -> NDArray[np.int64]:
    """The time of each picture's first packet, or of its last one where the first has none."""
    if first is last:
        return times[first]
    return np.where(times[first] == UNKNOWN_TIME, times[last], times[first])


def _ranks(
    given: NDArray[np.int64],
    dts: NDArray[np.int64],
    shown_at: OneClock,
    anchors: NDArray[np.bool_] | None,
    traits: StreamTraits,
) -> NDArray[np.int64] | None:
    """The place of each picture in presentation order; ``None`` if it cannot be told without decoding.

    Args:
        given: presentation times as the container gives them.
        dts: decoding times, likewise.
        shown_at: presentation times on one clock.
        anchors: as `PacketTable` has them.
        traits: of the stream.
    """
    pts = shown_at.times
    complete = bool(is_known(given).all())
    # Sorted and compared with their neighbours: `np.unique` takes ten times as long for so few.
    sorted_pts = np.sort(pts)
    distinct = complete and not (sorted_pts[1:] == sorted_pts[:-1]).any()
    known_pts = pts if complete else pts[is_known(given)]
    backwards = bool((known_pts[1:] < known_pts[:-1]).any())
    if anchors is not None and (traits.reorders or backwards or not complete):
        return _by_anchors(anchors)
    if traits.reorders and not shown_at.at_starts:
        return None
    if backwards:
        return _inverse(np.argsort(pts, kind="stable")) if distinct else None
    # If the container stores only one time per packet, it may be the decoding time, independent of its name.
    one_time = traits.guesses_pts or traits.guesses_dts or bool((given == dts).all())
    ambiguous = not distinct or (len(pts) > 2 and one_time)
    if (traits.reorders and ambiguous) or (traits.may_reorder and not complete):
        return None
    return np.arange(len(pts))


def _by_anchors(anchors: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Each anchor is shown just before the next one, after the B-pictures that are stored between the two."""
    places = np.flatnonzero(anchors)
    following = np.append(places[1:], len(anchors))
    due = np.arange(len(anchors), dtype=np.float64)
    due[places] = following - 0.5
    return _inverse(np.argsort(due, kind="stable"))


def _inverse(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each element in an order."""
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    return places


def _contradicts(rank: NDArray[np.int64], pts: NDArray[np.int64]) -> bool:
    """True if the times are in another order than the pictures."""
    times = np.empty_like(pts)
    times[rank] = pts
    return bool((np.diff(times) < 0).any())

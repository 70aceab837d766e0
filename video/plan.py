"""The cheapest way through a file to the wanted frames, in the order in which they are visited. Pure.

A *visit* begins at a key frame and goes on packet by packet. It gives every wanted frame that it passes, whether or not
that frame's turn has come. Leaving a visit and coming back later means decoding its head again.

The promise: **never more packets decoded than one scan of the file has**, whatever is wanted in whatever order. It is
kept by an invariant that every decision preserves: what was spent, plus a sweep through all that is still missing, is
within one scan. Within it the next frame comes as early as possible, because the viewer may leave after any frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from video.frame_index import FrameIndex


@dataclass(frozen=True)
class PacketRange:
    """Packets ``start``..``stop - 1``, in decode order, to be decoded before the frame at ``position`` can be had.

    A stretch that starts where the one before stopped goes on with it; any other is reached by seeking to its start,
    a key frame.
    """

    start: int
    stop: int
    position: int


@dataclass(frozen=True, order=True)
class _Target:
    """A packet that shows a wanted frame, and the key frame from which it can be decoded."""

    key: int
    packet: int


def key_frames(index: FrameIndex, packets: Sequence[int]) -> list[int]:
    """The packet at which decoding must begin for each of these packets.

    It is the last key frame that is neither stored nor shown after it. A picture stored after a key frame but shown
    before it (a leading picture of an open group) needs the group before.
    """
    found = []
    for packet in packets:
        place = int(np.searchsorted(index.keys, packet, side="right")) - 1
        while place > 0 and index.pts[index.keys[place]] > index.pts[packet]:
            place -= 1
        found.append(int(index.keys[place]))
    return found


def plan(index: FrameIndex, wanted: Sequence[int], decoded: int = 0) -> tuple[PacketRange, ...]:
    """What to decode, and when.

    Args:
        index: the file's packets.
        wanted: frame index per visited position, each 0..``index.frames`` - 1; at least one.
        decoded: packets already decoded from the file's start by a decoder that can go on from there.

    Returns:
        Stretches in the order of execution, ``position`` never decreasing. Their lengths and ``decoded`` together do
        not exceed ``index.packets``. If the file's times cannot be believed, or its first key frame is the only one,
        that is one scan forward.
    """
    if not index.timed:
        return (PacketRange(decoded, index.packets, 0),) if decoded < index.packets else ()
    packets = [int(packet) for packet in index.order[list(wanted)]]
    targets = dict(zip(wanted, map(_Target, key_frames(index, packets), packets), strict=True))
    missing = tuple(sorted(target for target in set(targets.values()) if target.packet >= decoded))
    stand = _Stand(begun=0, at=decoded, spent=decoded, missing=missing)
    stretches: list[PacketRange] = []
    for position, frame in enumerate(wanted):
        while targets[frame] in stand.missing:
            for target in _route(stand, targets[frame], budget=index.packets):
                if target not in stand.missing:
                    continue
                start = stand.at if stand.goes_on_to(target) else target.key
                _append(stretches, PacketRange(start, target.packet + 1, position))
                stand = stand.after(target)
    return tuple(stretches)


def _append(stretches: list[PacketRange], new: PacketRange) -> None:
    last = stretches[-1] if stretches else None
    if last is not None and (last.stop, last.position) == (new.start, new.position):
        stretches[-1] = PacketRange(last.start, new.stop, last.position)
    else:
        stretches.append(new)


def _route(stand: _Stand, target: _Target, budget: int) -> list[_Target]:
    """What to decode next on the way to ``target``: itself, if that is affordable, else what leaving would lose."""
    direct = [target]
    if stand.goes_on_to(target) or stand.affords(direct, budget):
        return direct
    detour = [*stand.group(), target]
    if stand.affords(detour, budget):
        return detour
    return stand.sweep()[:1]


@dataclass(frozen=True)
class _Stand:
    """Where the decoder stands while the plan is made.

    Attributes:
        begun: key frame at which the present visit began.
        at: packet that comes next.
        spent: packets decoded so far.
        missing: targets not had yet, sorted.
    """

    begun: int
    at: int
    spent: int
    missing: tuple[_Target, ...]

    def goes_on_to(self, target: _Target) -> bool:
        """Whether the present visit leads to the target without a jump."""
        return self.begun <= target.key <= self.at

    def after(self, target: _Target) -> _Stand:
        """Once ``target`` has been decoded, and with it all that lies on the way."""
        if target not in self.missing:
            return self
        begun, start = (self.begun, self.at) if self.goes_on_to(target) else (target.key, target.key)
        at = target.packet + 1
        missing = tuple(other for other in self.missing if other.key < begun or other.packet >= at)
        return _Stand(begun, at, self.spent + at - start, missing)

    def group(self) -> list[_Target]:
        """Missing targets that the present visit is halfway to: leaving now means decoding their head again."""
        group: list[_Target] = []
        end = self.at
        for target in self.missing:
            if self.begun <= target.key < end:
                group.append(target)
                end = max(end, target.packet + 1)
        return group

    def sweep(self) -> list[_Target]:
        """All that is missing in the cheapest order: going on from here, then from the start of the file."""
        ahead = [target for target in self.missing if target.key >= self.begun]
        return ahead + [target for target in self.missing if target.key < self.begun]

    def affords(self, targets: Sequence[_Target], budget: int) -> bool:
        """Whether a sweep still fits into the budget after decoding to these targets, one after the other."""
        stand = self
        for target in targets:
            stand = stand.after(target)
        return stand.spent + stand.sweep_cost() <= budget

    def sweep_cost(self) -> int:
        """Packets that decoding all that is missing costs, in the order of ``sweep``."""
        cost, begun, at = 0, self.begun, self.at
        for target in self.sweep():
            if not begun <= target.key <= at:
                begun = at = target.key
            cost += max(0, target.packet + 1 - at)
            at = max(at, target.packet + 1)
        return cost

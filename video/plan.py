"""Plans the cheapest way through a file to the wanted frames, in the order in which they are visited. Pure.

A *visit* begins at a key frame and continues packet by packet. It yields every wanted frame that it passes, whether or
not that frame's turn has come. After leaving a visit, its head has to be decoded again to come back to it.

**The number of decoded packets never exceeds that of one scan of the file**, for any wanted frames in any order. Every
decision preserves an invariant: the packets decoded so far, plus one sweep through all that is still missing, do not
exceed one scan. Within that limit the next frame comes as early as possible, because the model may stop after any
frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from adafocus.video.frame_index import FrameIndex


@dataclass(frozen=True)
class PacketRange:
    """Packets ``start``..``stop - 1``, in decode order, that the frame at ``position`` needs.

    A range that starts where the previous one stopped continues it. Any other is reached by seeking to its start, which
    is a key frame.
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
    """Returns the packet at which decoding must begin for each of these packets.

    It is the last key frame that is neither stored nor shown after the packet. A picture that is stored after a key
    frame but shown before it (a leading picture of an open group) also needs the group before.
    """
    found = []
    for packet in packets:
        place = int(np.searchsorted(index.keys, packet, side="right")) - 1
        while place > 0 and index.frame_of[index.keys[place]] > index.frame_of[packet]:
            place -= 1
        found.append(int(index.keys[place]))
    return found


def plan(index: FrameIndex, wanted: Sequence[int], decoded: int = 0) -> tuple[PacketRange, ...]:
    """Returns what to decode, and when.

    Args:
        index: the file's packets.
        wanted: frame index per visited position, each 0..``index.frames`` - 1; at least one.
        decoded: packets already decoded from the file's start by a decoder that can go on from there.

    Returns:
        Ranges in the order of execution, ``position`` never decreasing. Their lengths and ``decoded`` together do
        not exceed ``index.packets``. If the order of frames is not known, or the first key frame is the only one, that
        is one scan forward.
    """
    return tuple(ranges(index, wanted, decoded))


def ranges(index: FrameIndex, wanted: Sequence[int], decoded: int = 0) -> Iterator[PacketRange]:
    """Makes the ranges of `plan` as they are asked for: a video left after its first frame needs only the first."""
    if not index.ordered:
        if decoded < index.packets:
            yield PacketRange(decoded, index.packets, 0)
        return
    packets = [int(packet) for packet in index.order[list(wanted)]]
    targets = dict(zip(wanted, map(_Target, key_frames(index, packets), packets), strict=True))
    missing = tuple(sorted(target for target in set(targets.values()) if target.packet >= decoded))
    stand = _Stand(begun=0, at=decoded, spent=decoded, missing=missing)
    yield from _follow(stand, wanted, targets, index.packets)


def further_ranges(index: FrameIndex, wanted: Sequence[int], begun: int, at: int) -> Iterator[PacketRange]:
    """Makes the ranges for further frames of an ordered file, of which other frames have been read.

    Together they are no longer than one scan from the first to the last packet that these frames need.

    Args:
        index: the file's packets.
        wanted: frame index per visited position; frames that are there already need not be among them.
        begun: key frame at which the present visit began.
        at: packet that comes next; what came before is gone.
    """
    if not wanted:
        return
    packets = [int(packet) for packet in index.order[list(wanted)]]
    targets = dict(zip(wanted, map(_Target, key_frames(index, packets), packets), strict=True))
    missing = tuple(sorted(set(targets.values())))
    if any(target.packet < at and target.key >= begun for target in missing):
        begun = at = index.packets  # something that is needed has passed: nothing goes on from here
    stand = _Stand(begun=begun, at=at, spent=0, missing=missing)
    start = at if stand.goes_on_to(missing[0]) else missing[0].key
    yield from _follow(stand, wanted, targets, budget=max(max(packets) + 1 - start, stand.sweep_cost()))


def _follow(stand: _Stand, wanted: Sequence[int], targets: Mapping[int, _Target], budget: int) -> Iterator[PacketRange]:
    for position, frame in enumerate(wanted):
        of_position: list[PacketRange] = []
        while targets[frame] in stand.missing:
            for target in _route(stand, targets[frame], budget):
                if target not in stand.missing:
                    continue
                start = stand.at if stand.goes_on_to(target) else target.key
                _append(of_position, PacketRange(start, target.packet + 1, position))
                stand = stand.after(target)
        yield from of_position


def _append(ranges: list[PacketRange], new: PacketRange) -> None:
    last = ranges[-1] if ranges else None
    if last is not None and (last.stop, last.position) == (new.start, new.position):
        ranges[-1] = PacketRange(last.start, new.stop, last.position)
    else:
        ranges.append(new)


def _route(stand: _Stand, target: _Target, budget: int) -> list[_Target]:
    """Returns what to decode next: ``target``, if that is affordable, or else what leaving this visit would lose."""
    direct = [target]
    if stand.goes_on_to(target) or stand.affords(direct, budget):
        return direct
    detour = [*stand.group(), target]
    if stand.affords(detour, budget):
        return detour
    return stand.sweep()[:1]


@dataclass(frozen=True)
class _Stand:
    """The position of the decoder while the plan is made.

    Attributes:
        begun: key frame at which this visit began.
        at: packet that comes next.
        spent: packets decoded so far.
        missing: targets not decoded yet, sorted.
    """

    begun: int
    at: int
    spent: int
    missing: tuple[_Target, ...]

    def goes_on_to(self, target: _Target) -> bool:
        """Tells whether this visit leads to the target without a seek."""
        return self.begun <= target.key <= self.at

    def after(self, target: _Target) -> _Stand:
        """Returns the position after ``target`` and all that lies on the way have been decoded."""
        if target not in self.missing:
            return self
        begun, start = (self.begun, self.at) if self.goes_on_to(target) else (target.key, target.key)
        at = target.packet + 1
        missing = tuple(other for other in self.missing if other.key < begun or other.packet >= at)
        return _Stand(begun, at, self.spent + at - start, missing)

    def group(self) -> list[_Target]:
        """Returns the missing targets whose group has been begun: after leaving it, its head is decoded again."""
        group: list[_Target] = []
        end = self.at
        for target in self.missing:
            if self.begun <= target.key < end:
                group.append(target)
                end = max(end, target.packet + 1)
        return group

    def sweep(self) -> list[_Target]:
        """Returns all missing targets in the cheapest order: from here on, then from the start of the file."""
        ahead = [target for target in self.missing if target.key >= self.begun]
        return ahead + [target for target in self.missing if target.key < self.begun]

    def affords(self, targets: Sequence[_Target], budget: int) -> bool:
        """Tells whether a sweep still fits into the budget after these targets have been decoded in turn."""
        stand = self
        for target in targets:
            stand = stand.after(target)
        return stand.spent + stand.sweep_cost() <= budget

    def sweep_cost(self) -> int:
        """Returns how many packets a sweep decodes."""
        cost, begun, at = 0, self.begun, self.at
        for target in self.sweep():
            if not begun <= target.key <= at:
                begun = at = target.key
            cost += max(0, target.packet + 1 - at)
            at = max(at, target.packet + 1)
        return cost

"""Selects the frames of a video that the model sees, and the order in which it visits them. Pure.

Frame indices count from 0 in presentation order. A *position* is a place 0..frames-1 in time among the sampled frames;
the *visiting order* says which position is visited first, second, and so on.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

OrderName = Literal["coarse_to_fine", "sequential"]

Snap = Literal["none", "keyframe"]
"""Whether a sampled frame may be replaced by a key frame of its own interval, which costs less to decode."""


def visiting_order(n: int, name: OrderName) -> tuple[int, ...]:
    """Returns positions 0..n-1 in the order in which they are visited: a permutation.

    ``coarse_to_fine`` starts with the middle, the first and the last, then keeps halving the gaps, as the released code
    does for arXiv 2112.14238; ``sequential`` goes forward in time.

    Raises:
        ValueError: ``n`` is less than 1, or the order has another name.
    """
    if n < 1:
        raise ValueError(f"an order needs at least 1 frame, got {n}")
    if name == "sequential":
        return tuple(range(n))
    if name != "coarse_to_fine":
        raise ValueError(f"frame order must be coarse_to_fine or sequential, got {name!r}")
    last = n - 1
    order = dict.fromkeys((last // 2, 0, last))
    pieces = 2
    while len(order) < n:
        cuts = [last * i // pieces for i in range(pieces + 1)]
        order.update(dict.fromkeys((a + b) // 2 for a, b in pairwise(cuts)))
        pieces *= 2
    return tuple(order)


def sample_indices(num_frames: int, samples: int, first_frame: int = 0) -> tuple[int, ...]:
    """Returns ``samples`` frame indices, spread evenly over ``first_frame``..``num_frames - 1`` and in time order.

    If there are no more frames than samples: each of them once, then the last one repeated. If the video ends before
    ``first_frame``, only its last frame.

    Raises:
        ValueError: ``num_frames`` or ``samples`` is less than 1, or ``first_frame`` is negative.
    """
    first, usable = _usable(num_frames, samples, first_frame)
    if usable <= samples:
        return tuple(first + min(i, usable - 1) for i in range(samples))
    return _evenly(first, usable, samples)


def sample_clip_indices(num_frames: int, samples: int, first_frame: int = 0) -> tuple[int, ...]:
    """Returns indices as ``sample_indices`` does; if there are no more frames than samples, only the first, repeated.

    For the clip model.

    Raises:
        ValueError: as ``sample_indices``.
    """
    first, usable = _usable(num_frames, samples, first_frame)
    if usable <= samples:
        return (first,) * samples
    return _evenly(first, usable, samples)


def intervals(num_frames: int, samples: int, first_frame: int = 0) -> tuple[range, ...]:
    """Returns the interval of each of ``samples`` sampled frames: equal, disjoint, and in time order.

    They cover ``first_frame``..``num_frames - 1``. If there are no more frames than samples there is nothing to divide,
    and no interval is returned.

    Raises:
        ValueError: as `sample_indices`.
    """
    first, usable = _usable(num_frames, samples, first_frame)
    if usable <= samples:
        return ()
    bounds = [first + i * usable // samples for i in range(samples + 1)]
    return tuple(range(start, stop) for start, stop in pairwise(bounds))


def snapped(sampled: Sequence[int], within: Sequence[range], key_frames: Sequence[int]) -> tuple[int, ...]:
    """Returns the sampled frames, each replaced by the nearest key frame of its interval, if the interval has one.

    A model that was trained on frames drawn from whole intervals sees nothing unusual.

    Args:
        sampled: frame indices in time order.
        within: the interval of each, as `intervals` returns them; empty: nothing is replaced.
        key_frames: frame indices that decoding can start from, ascending.
    """
    if not within:
        return tuple(sampled)
    return tuple(_nearest(frame, interval, key_frames) for frame, interval in zip(sampled, within, strict=True))


def _nearest(frame: int, interval: range, key_frames: Sequence[int]) -> int:
    """Returns the key frame of the interval that is nearest to a frame, the earlier one of two; else the frame."""
    after = bisect_left(key_frames, frame)
    neighbours = [key for key in key_frames[max(0, after - 1) : after + 1] if key in interval]
    return min(neighbours, key=lambda key: abs(key - frame), default=frame)


def wanted_frames(
    num_frames: int,
    *,
    frames: int,
    order: Sequence[int],
    first_frame: int = 0,
    focus_frames: int | None = None,
    key_frames: Sequence[int] = (),
) -> tuple[int, ...]:
    """Returns the frame index at each visited position, in visiting order.

    Args:
        num_frames: frames in the video.
        frames: number of sampled frames; for a clip model, those of the glance.
        order: a permutation of 0..frames-1, as ``visiting_order`` returns it.
        first_frame: frames before this one are never sampled.
        focus_frames: for a clip model, number of frames of the focus; they follow those of the glance, in time order.
        key_frames: frames, ascending, that sampled ones move to within their intervals; see `snapped`. Empty: none
            moves, as published.

    Returns:
        ``frames`` indices, or ``frames + focus_frames`` for a clip model. An index may occur more than once.

    Raises:
        ValueError: ``order`` is not such a permutation, or a count is out of range.
    """
    if sorted(order) != list(range(frames)):
        raise ValueError(f"order must visit each of the {frames} sampled frames once, got {tuple(order)}")

    def snap(sampled: Sequence[int]) -> tuple[int, ...]:
        within = intervals(num_frames, len(sampled), first_frame) if key_frames else ()
        return snapped(sampled, within, key_frames)

    if focus_frames is None:
        sampled = snap(sample_indices(num_frames, frames, first_frame))
        return tuple(sampled[position] for position in order)
    glance = snap(sample_clip_indices(num_frames, frames, first_frame))
    focus = snap(sample_clip_indices(num_frames, focus_frames, first_frame))
    return tuple(glance[position] for position in order) + focus


def _usable(num_frames: int, samples: int, first_frame: int) -> tuple[int, int]:
    """Returns the first frame that may be sampled, and the number of frames from there on: at least one."""
    if num_frames < 1:
        raise ValueError(f"a video to sample from has at least 1 frame, got {num_frames}")
    if samples < 1:
        raise ValueError(f"at least 1 frame must be sampled, got {samples}")
    if first_frame < 0:
        raise ValueError(f"first_frame must be 0 or more, got {first_frame}")
    first = min(first_frame, num_frames - 1)
    return first, num_frames - first


def _evenly(first: int, usable: int, samples: int) -> tuple[int, ...]:
    """Returns the middle of each of ``samples`` equal pieces."""
    tick = usable / samples
    return tuple(first + int(tick / 2 + tick * i) for i in range(samples))

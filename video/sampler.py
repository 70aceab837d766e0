"""Which frames of a video the model sees, and in which order it visits them. Pure; PAPER section 1.

Frame indices count from 0 in presentation order. A *position* is a place 0..frames-1 in time among the sampled frames;
the *visiting order* says which position is visited first, second, and so on.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

OrderName = Literal["coarse_to_fine", "sequential"]


def visiting_order(n: int, name: OrderName) -> tuple[int, ...]:
    """Positions 0..n-1 in the order in which they are visited: always a permutation.

    ``coarse_to_fine`` starts with the middle, the first and the last, then keeps halving the gaps (PAPER section 1);
    ``sequential`` goes forward in time.

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
    """``samples`` frame indices spread evenly over frames ``first_frame``..``num_frames - 1``, in time order.

    With no more frames than samples: each of them once, then the last one repeated. If the video ends before
    ``first_frame``, its last frame is all there is to repeat.

    Raises:
        ValueError: ``num_frames`` or ``samples`` is less than 1, or ``first_frame`` is negative.
    """
    first, usable = _usable(num_frames, samples, first_frame)
    if usable <= samples:
        return tuple(first + min(i, usable - 1) for i in range(samples))
    return _evenly(first, usable, samples)


def sample_clip_indices(num_frames: int, samples: int, first_frame: int = 0) -> tuple[int, ...]:
    """As ``sample_indices``, for the clip model: with no more frames than samples, only the first frame, repeated.

    Raises:
        ValueError: as ``sample_indices``.
    """
    first, usable = _usable(num_frames, samples, first_frame)
    if usable <= samples:
        return (first,) * samples
    return _evenly(first, usable, samples)


def wanted_frames(
    num_frames: int,
    *,
    frames: int,
    order: Sequence[int],
    first_frame: int = 0,
    focus_frames: int | None = None,
) -> tuple[int, ...]:
    """The frame index at each visited position, in visiting order.

    Args:
        num_frames: frames in the video.
        frames: how many are sampled; a clip model's glance frames.
        order: a permutation of 0..frames-1, as ``visiting_order`` makes it.
        first_frame: frames before this one are never sampled.
        focus_frames: clip models only: how many the focus samples; they follow the glance's, in time order.

    Returns:
        ``frames`` indices, or ``frames + focus_frames`` for a clip model. An index may occur more than once.

    Raises:
        ValueError: ``order`` is not such a permutation, or a count is out of range.
    """
    if sorted(order) != list(range(frames)):
        raise ValueError(f"order must visit each of the {frames} sampled frames once, got {tuple(order)}")
    if focus_frames is None:
        sampled = sample_indices(num_frames, frames, first_frame)
        return tuple(sampled[position] for position in order)
    glance = sample_clip_indices(num_frames, frames, first_frame)
    focus = sample_clip_indices(num_frames, focus_frames, first_frame)
    return tuple(glance[position] for position in order) + focus


def _usable(num_frames: int, samples: int, first_frame: int) -> tuple[int, int]:
    """First frame that may be sampled, and how many there are from it on: at least one."""
    if num_frames < 1:
        raise ValueError(f"a video to sample from has at least 1 frame, got {num_frames}")
    if samples < 1:
        raise ValueError(f"at least 1 frame must be sampled, got {samples}")
    if first_frame < 0:
        raise ValueError(f"first_frame must be 0 or more, got {first_frame}")
    first = min(first_frame, num_frames - 1)
    return first, num_frames - first


def _evenly(first: int, usable: int, samples: int) -> tuple[int, ...]:
    """The middle of each of ``samples`` equal pieces."""
    tick = usable / samples
    return tuple(first + int(tick / 2 + tick * i) for i in range(samples))

from __future__ import annotations

import os
import weakref

import numpy as np
import pytest

from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.worker.frame_writer import FrameWriter


def square(side: int, value: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.full((side, side, 3), value, dtype=np.uint8)


def test_a_frame_comes_out_of_the_slot_that_it_went_into() -> None:
    frames = SharedFrames.create(slots=3, crop=5)
    other = FrameWriter(os.dup(frames.fd), 3, 5)
    for slot in range(3):
        other.put(slot, square(5, slot + 1))
    other.put(1, square(4, 9))
    assert [int(frames.take(slot, 4).min()) for slot in range(3)] == [1, 9, 3]
    taken = frames.take(2, 5)
    other.put(2, square(5, 77))
    assert (taken == 3).all()
    frames.close()
    frames.close()
    other.close()
    other.close()
    with pytest.raises(ValueError):
        other.put(0, square(5, 1))


def test_closed_memory_is_unmapped_though_somebody_still_refers_to_it() -> None:
    frames = SharedFrames.create(slots=3, crop=5)
    FrameWriter(os.dup(frames.fd), 3, 5).put(1, square(5, 7))
    segment, read = weakref.ref(frames.segment), frames.segment.pixels[1]
    frames.close()
    assert segment() is None
    assert (read == 7).all(), "whoever reads a frame keeps it"
    with pytest.raises(ValueError, match="closed"):
        frames.take(1, 5)
    with pytest.raises(ValueError, match="closed"):
        _ = frames.segment


@pytest.mark.parametrize(("slot", "side"), [(-1, 5), (3, 5), (0, 0), (0, 6)])
def test_nothing_lies_outside(slot: int, side: int) -> None:
    frames = SharedFrames.create(slots=3, crop=5)
    with pytest.raises(ValueError):
        frames.take(slot, side)
    writer = FrameWriter(os.dup(frames.fd), 3, 5)
    with pytest.raises(ValueError):
        writer.put(slot, square(side, 1))
    writer.close()
    frames.close()


def test_memory_that_cannot_be_mapped_is_an_error_and_its_descriptor_is_closed() -> None:
    reading, writing = os.pipe()
    with pytest.raises(OSError, match="cannot be mapped"):
        FrameWriter(reading, 3, 5)
    with pytest.raises(OSError):
        os.fstat(reading)
    os.close(writing)


@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_the_other_side_cannot_change_the_size(size: int) -> None:
    frames = SharedFrames.create(slots=3, crop=5)
    with pytest.raises(PermissionError):
        os.ftruncate(frames.fd, size)
    frames.close()

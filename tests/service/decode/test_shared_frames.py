from __future__ import annotations

import os
import weakref

import numpy as np
import pytest

from adafocus.service.decode.shared_frames import SharedFrames
from adafocus.service.decode.worker.frame_writer import KEPT_MEMORIES, FrameWriter, FrameWriters


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


class TestFrameWriters:
    """The memory of earlier jobs stays mapped, and that of the job is always the right one."""

    def test_frames_lie_in_the_memory_of_their_job(self) -> None:
        memories = [SharedFrames.create(slots=2, crop=5) for _ in range(KEPT_MEMORIES + 3)]
        writers = FrameWriters(2, 5)
        for value in range(1, 200):
            memory = memories[value * value % len(memories)]
            writer = writers.take(memory.number, os.dup(memory.fd))
            writer.put(value % 2, square(5, value))
            writers.rest(writer)
            assert (memory.take(value % 2, 5) == value).all()
        for memory in memories:
            memory.close()

    def test_few_are_kept_and_no_descriptor(self) -> None:
        writers = FrameWriters(1, 5)
        taken = []
        for _ in range(KEPT_MEMORIES + 2):
            memory, fd = SharedFrames.create(slots=1, crop=5), os.dup(0)
            os.dup2(memory.fd, fd)
            taken.append(writers.take(memory.number, fd))
            with pytest.raises(OSError):
                os.fstat(fd)
            writers.rest(taken[-1])
            memory.close()
        assert [writer.is_open for writer in taken] == [False] * 2 + [True] * KEPT_MEMORIES

    def test_memory_without_a_number_is_given_back(self) -> None:
        writers, memory = FrameWriters(1, 5), SharedFrames.create(slots=1, crop=5)
        writer = writers.take(0, os.dup(memory.fd))
        writers.rest(writer)
        assert not writer.is_open
        memory.close()

    def test_pages_that_hold_a_smaller_square_only_are_prepared_again(self) -> None:
        memory = SharedFrames.create(slots=1, crop=100)
        writer = FrameWriter(os.dup(memory.fd), 1, 100)
        for side in (3, 100, 100, 7):
            writer.put(0, square(side, side))
            assert (memory.take(0, side) == side).all()
        writer.close()
        memory.close()

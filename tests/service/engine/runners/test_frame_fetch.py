"""Frames that a device fetches itself: what it is told to copy, and that the answers are those of copied frames."""

from __future__ import annotations

import asyncio
import ctypes
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest

from adafocus.service.engine.runners.base import (
    BatchInputs,
    BatchOutputs,
    FrameFetcher,
    FramePlaces,
    RunnerError,
    UInt8,
)
from adafocus.service.engine.runners.fake import FakeRunner
from adafocus.service.engine.runners.frame_fetch import FrameFetch
from adafocus.service.frame_memory import FrameSegment, SharedFrame
from tests.service.engine.factory import CROP, make_engine, never_leave

FRAME_BYTES = 3 * CROP * CROP


@dataclass
class HostCopies:
    """A device whose memory is the host's."""

    registered: dict[int, int] = field(default_factory=dict)
    fails: bool = False
    refuses: bool = False

    def register(self, address: int, size: int) -> None:
        if self.refuses:
            raise RunnerError("no memory can be registered")
        self.registered[address] = size

    def unregister(self, address: int) -> None:
        del self.registered[address]

    def copy(self, destination: int, source: int, size: int) -> int:
        assert any(start <= source and source + size <= start + length for start, length in self.registered.items())
        ctypes.memmove(destination, source, size)
        return 700 if self.fails else 0


class FetchingRunner(FakeRunner):
    """A fake whose device reads frames where they lie."""

    def __init__(self, copies: HostCopies, rows: int = 8) -> None:
        super().__init__(3, gain=1.0)
        self.copies = copies
        self.fetched: list[int] = []
        self._fetch = FrameFetch(copies, FRAME_BYTES)
        self._memory: UInt8 = np.zeros((rows, CROP, CROP, 3), dtype=np.uint8)

    def attach(self, segment: FrameSegment) -> None:
        self._fetch.attach(segment)

    def detach(self, segment: FrameSegment) -> None:
        self._fetch.detach(segment)

    def submit(self, inputs: BatchInputs) -> object:
        assert inputs.frame_places is not None
        self._fetch.fetch(inputs.frame_places, self._memory.ctypes.data)
        self.fetched.append(inputs.rows)
        glance = self.glance(self._memory[: inputs.rows], inputs.policy_state)
        focus = self.focus(
            self._memory[: inputs.rows], glance.patch_centre, glance.feature, inputs.pooled_state, inputs.step
        )
        return BatchOutputs(glance.patch_centre, focus.logits, glance.policy_state, focus.pooled_state, 0.1, 0.1)

    def wait(self, ticket: object) -> BatchOutputs:
        assert isinstance(ticket, BatchOutputs)
        return ticket


@dataclass
class Lent:
    """Frames in shared memory; what is lent and not given back is counted."""

    segment: FrameSegment
    shades: list[int]
    taken: int = 0
    lent: set[int] = field(default_factory=set)

    async def next(self) -> SharedFrame | None:
        return self.next_ready()

    def next_ready(self) -> SharedFrame | None:
        if self.taken == len(self.shades):
            return None
        place = self.taken
        self.segment.pixels[place] = self.shades[place]
        self.lent.add(place)
        self.taken += 1
        return SharedFrame(place, place, None, self.segment, place, partial(self.lent.remove, place))


async def test_a_device_that_fetches_frames_gives_the_same_answers_and_gives_places_back() -> None:
    runner = FetchingRunner(HostCopies())
    assert isinstance(runner, FrameFetcher)
    videos = [Lent(FrameSegment.create(4, CROP), [shade, 10, 20, 30]) for shade in (10, 120, 250)]
    async with make_engine(runner) as (engine, _):
        outcomes = await asyncio.gather(*(engine.classify(never_leave(), video) for video in videos))
        assert [video.lent for video in videos] == [set()] * 3
    assert [int(outcome.last.logits.argmax()) for outcome in outcomes] == [0, 1, 2]
    assert sum(runner.fetched) == 12


@pytest.mark.parametrize("copies", [HostCopies(fails=True), HostCopies(refuses=True)])
async def test_frames_that_the_device_cannot_fetch_are_copied_by_the_processor(copies: HostCopies) -> None:
    runner = FetchingRunner(copies)
    async with make_engine(runner) as (engine, _):
        outcome = await engine.classify(never_leave(), Lent(FrameSegment.create(4, CROP), [250, 10, 20, 30]))
    assert int(outcome.last.logits.argmax()) == 2
    assert (runner.fetched, sum(runner.batches)) == ([], 4)


def test_memory_is_let_go_of_when_its_segment_is_detached() -> None:
    copies = HostCopies()
    fetch = FrameFetch(copies, FRAME_BYTES)
    segments = [FrameSegment(None, FrameSegment.create(2, CROP).pixels, number) for number in (3, 500)]
    for segment in segments:
        fetch.attach(segment)
    assert len(copies.registered) == 2
    out = np.zeros((2, CROP, CROP, 3), dtype=np.uint8)
    segments[0].pixels[1], segments[1].pixels[0] = 7, 9
    fetch.fetch(FramePlaces(np.array([3, 500]), np.array([1, 0])), out.ctypes.data)
    assert [int(frame.min()) for frame in out] == [7, 9]
    fetch.detach(segments[1])
    assert len(copies.registered) == 1
    with pytest.raises(RunnerError, match="cannot read"):
        fetch.fetch(FramePlaces(np.array([500]), np.array([0])), out.ctypes.data)
    fetch.detach(segments[1])

"""A runner that fetches frames gives the answers of one that is given them; the processor stands for the device."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np
import onnxruntime as ort
import pytest

from adafocus.bundle.store import Bundle
from adafocus.export.example_frames import texture
from adafocus.service.engine.batch import Batch
from adafocus.service.engine.runners.base import (
    AsyncRunner,
    BatchOutputs,
    FrameFetcher,
    FramePlaces,
    RunnerError,
    UInt8,
)
from adafocus.service.engine.runners.fetching import FetchingRunner
from adafocus.service.engine.runners.graphs import GraphRunner
from adafocus.service.engine.runners.onnx_device import DeviceSessions
from adafocus.service.frame_memory import FrameSegment
from tests.service.engine.runners.test_onnx import parts

SIDE = 64
ROWS = 3


@dataclass
class HostDevice:
    """Copies that are done when the device is waited for, as a stream may do them."""

    pending: list[tuple[int, int, int]] = field(default_factory=list)
    memory: list[UInt8] = field(default_factory=list)

    def allocate(self, size: int) -> int:
        self.memory.append(np.zeros(size, dtype=np.uint8))
        return int(self.memory[-1].ctypes.data)

    def register(self, address: int, size: int) -> None:
        """All memory can be read."""

    def unregister(self, address: int) -> None:
        """Nothing is kept."""

    def copy(self, destination: int, source: int, size: int) -> int:
        self.pending.append((destination, source, size))
        return 0

    def copy_within(self, destination: int, source: int, size: int) -> None:
        for copy in (*self.pending, (destination, source, size)):
            ctypes.memmove(*copy)
        self.pending.clear()


def sessions(bundle: Bundle) -> DeviceSessions:
    files, graphs = parts(bundle)
    return DeviceSessions(lambda name: ort.InferenceSession(str(files[name])), graphs, "cpu")


def batch_of(runner: GraphRunner, rows: int, step: int, where: FramePlaces | None, frames: UInt8) -> Batch:
    size = runner.padded(rows)
    policy = np.zeros((size, runner.widths.policy), np.float32)
    pooled = np.zeros((size, runner.widths.pooled), np.float32)
    return Batch(rows, frames, frames, policy, pooled, np.full(size, step, np.int64), where)


def test_frames_that_are_fetched_give_the_answers_of_frames_that_are_given(frame_bundle: Bundle) -> None:
    _, graphs = parts(frame_bundle)
    options = {"backend": "x", "precision": "fp32", "batch_sizes": (1, 2, 4)}
    runner = FetchingRunner(sessions(frame_bundle), graphs, HostDevice(), SIDE, **options)  # type: ignore[arg-type]
    assert isinstance(runner, AsyncRunner)
    assert isinstance(runner, FrameFetcher)
    plain = GraphRunner(sessions(frame_bundle), graphs, **options)  # type: ignore[arg-type]
    segment = FrameSegment.create(8, SIDE)
    segment.pixels[:] = texture(8, SIDE, seed=3)
    runner.attach(segment)
    nothing = np.zeros((4, SIDE, SIDE, 3), np.uint8)
    places = [np.array([5, 0, 7]), np.array([1, 6, 2])]
    tickets = [
        runner.submit(batch_of(runner, ROWS, step, FramePlaces(np.full(ROWS, segment.number), where), nothing))
        for step, where in enumerate(places)
    ]
    fetched = [runner.wait(ticket) for ticket in tickets]
    for step, (where, got) in enumerate(zip(places, fetched, strict=True)):
        frames = np.concatenate([segment.pixels[where], nothing[:1]])
        expected = run_plain(plain, batch_of(plain, ROWS, step, None, frames))
        np.testing.assert_array_equal(got.logits[:ROWS], expected.logits[:ROWS])
        np.testing.assert_array_equal(got.policy_state[:ROWS], expected.policy_state[:ROWS])
    given = runner.wait(runner.submit(batch_of(runner, ROWS, 1, None, frames)))
    np.testing.assert_array_equal(given.logits[:ROWS], expected.logits[:ROWS])
    runner.detach(segment)
    with pytest.raises(RunnerError, match="cannot read"):
        runner.submit(batch_of(runner, ROWS, 0, FramePlaces(np.full(ROWS, segment.number), places[0]), nothing))
    with pytest.raises(RunnerError, match="ticket"):
        runner.wait(None)


def run_plain(runner: GraphRunner, batch: Batch) -> BatchOutputs:
    glance = runner.glance(batch.glance_frames, batch.policy_state)
    focus = runner.focus(batch.focus_frames, glance.patch_centre, glance.feature, batch.pooled_state, batch.step)
    return BatchOutputs(glance.patch_centre, focus.logits, glance.policy_state, focus.pooled_state, 0.0, 0.0)

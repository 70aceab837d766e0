"""A runner whose device fetches frames from where decoders wrote them, while it computes the batch before."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from adafocus.bundle.manifest import Precision
from adafocus.service.engine.runners.base import BatchInputs, BatchOutputs, RunnerError
from adafocus.service.engine.runners.frame_fetch import CopyEngine, FrameFetch
from adafocus.service.engine.runners.graphs import Executor, GraphRunner, Graphs
from adafocus.service.frame_memory import FrameSegment

BATCHES_AT_THE_DEVICE = 2


class DeviceCopies(CopyEngine, Protocol):
    """A `CopyEngine` with memory of the device to copy to."""

    def allocate(self, size: int) -> int:
        """Return the address of so many bytes."""

    def copy_within(self, destination: int, source: int, size: int) -> None:
        """Copy bytes within the device, after all copies that were begun, and wait."""


class DeviceExecutor(Executor, Protocol):
    """An executor whose inputs lie on a device."""

    fetched: Callable[[int], None] | None
    """Instead of the frames that the next glance is given: writes them to the address of its input."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    """A batch whose frames are on their way."""

    inputs: BatchInputs
    address: int | None


class FetchingRunner(GraphRunner):
    """A `GraphRunner` that is told where frames lie. Implements `AsyncRunner` and `FrameFetcher`.

    Frames of a batch are fetched into one of two buffers on the device, so that they arrive while the batch before is
    computed, and from there go to the input of the graph, whose address never changes.

    Args:
        executor: as for `GraphRunner`.
        copies: of its device.
        side: of a frame, pixels.
    """

    def __init__(
        self,
        executor: DeviceExecutor,
        graphs: Graphs,
        copies: DeviceCopies,
        side: int,
        *,
        backend: str,
        precision: Precision,
        batch_sizes: Sequence[int],
        look_ahead: int = 1,
        pad_ahead: bool = False,
    ) -> None:
        super().__init__(
            executor,
            graphs,
            backend=backend,
            precision=precision,
            batch_sizes=batch_sizes,
            look_ahead=look_ahead,
            pad_ahead=pad_ahead,
        )
        self._device = executor
        self._copies = copies
        self._frame_bytes = 3 * side * side
        self._fetch = FrameFetch(copies, self._frame_bytes)
        size = batch_sizes[-1] * self._frame_bytes
        self._buffers = [copies.allocate(size) for _ in range(BATCHES_AT_THE_DEVICE)]

    def attach(self, segment: FrameSegment) -> None:
        """See `FrameFetcher`."""
        self._fetch.attach(segment)

    def detach(self, segment: FrameSegment) -> None:
        """See `FrameFetcher`."""
        self._fetch.detach(segment)

    def submit(self, inputs: BatchInputs) -> object:
        """Begin to fetch the frames of a batch; see `AsyncRunner`."""
        if inputs.frame_places is None:
            return _Ticket(inputs, None)
        self._buffers.reverse()  # the other one: two batches are at the device at most
        self._fetch.fetch(inputs.frame_places, self._buffers[0])
        return _Ticket(inputs, self._buffers[0])

    def wait(self, ticket: object) -> BatchOutputs:
        """Run both graphs once the frames are there; see `AsyncRunner`."""
        if not isinstance(ticket, _Ticket):
            raise RunnerError(f"a ticket comes from submit, got {type(ticket).__name__}")
        inputs, address = ticket.inputs, ticket.address
        began = time.perf_counter()
        if address is not None:
            size = inputs.rows * self._frame_bytes
            self._device.fetched = lambda target: self._copies.copy_within(target, address, size)
        try:
            glance = self.glance(inputs.glance_frames, inputs.policy_state)
        finally:
            self._device.fetched = None
        between = time.perf_counter()
        focus = self.focus(inputs.focus_frames, glance.patch_centre, glance.feature, inputs.pooled_state, inputs.step)
        seconds = between - began, time.perf_counter() - between
        return BatchOutputs(glance.patch_centre, focus.logits, glance.policy_state, focus.pooled_state, *seconds)

"""The device as the core sees it: batches go in, and come back as messages when they are done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from adafocus.service.engine.batch import Batch, BatchResult, finish, run
from adafocus.service.engine.runners.base import AsyncRunner, BatchOutputs, Int64, Runner, RunnerError
from adafocus.service.engine.staging import Staging


@dataclass(frozen=True, slots=True)
class InFlight:
    """A batch at the device.

    Attributes:
        slots: whose steps it holds.
        steps: of each of them; more than one only for a single slot.
        batch: its inputs.
        staging: the memory that they lie in.
        outputs: waits for the device.
    """

    slots: Int64
    steps: int
    batch: Batch
    staging: Staging
    outputs: Callable[[], BatchOutputs]


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that the device has finished, or an error that no runner should raise."""

    flight: InFlight
    result: BatchResult | Exception


class Device:
    """Runs batches in the order in which they come.

    Args:
        runner: warmed up.
        done: told of each batch that is finished, on the thread that waited for it.
        own_thread: wait on a thread of its own, so that deadlines and cancellations are handled meanwhile. If not,
            `run` returns when the batch is done.
    """

    def __init__(self, runner: Runner, done: Callable[[Done], None], *, own_thread: bool) -> None:
        self._own_thread = own_thread
        self._runner = runner
        self._async = runner if isinstance(runner, AsyncRunner) else None
        self._done = done
        self._batches: SimpleQueue[InFlight | None] = SimpleQueue()
        self._waiter = threading.Thread(target=self._wait, name="device", daemon=True)

    def start(self) -> None:
        """Begin to wait for batches."""
        if self._own_thread:
            self._waiter.start()

    def close(self) -> None:
        """Finish what is there, and end the thread."""
        if self._own_thread:
            self._batches.put(None)
            self._waiter.join()

    def run(self, slots: Int64, steps: int, batch: Batch, staging: Staging) -> None:
        """Have a batch run; ``slots``, ``steps`` and ``staging`` come back with its result."""
        flight = InFlight(slots, steps, batch, staging, self._submitted(batch))
        if self._own_thread:
            self._batches.put(flight)
        else:
            self._finish(flight)

    def _submitted(self, batch: Batch) -> Callable[[], BatchOutputs]:
        """Return the function that waits for the batch, which has been submitted if the device works on its own."""
        if self._async is None or batch.glance_exit is not None:  # which the processor decides, between two graphs
            return partial(run, self._runner, batch)
        try:
            return partial(self._async.wait, self._async.submit(batch))
        except RunnerError:
            return partial(run, self._runner, batch)  # which raises it again, or works

    def _wait(self) -> None:
        name_this_thread("device")
        while (flight := self._batches.get()) is not None:
            self._finish(flight)

    def _finish(self, flight: InFlight) -> None:
        try:
            result: BatchResult | Exception = finish(self._runner, flight.batch, flight.outputs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the videos of this batch fail and the loop goes on
            result = error
        self._done(Done(flight, result))


def name_this_thread(name: str) -> None:
    """Let tools that list threads, such as ``top -H``, show the name."""
    with suppress(OSError):  # another system than Linux
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(name, encoding="ascii")

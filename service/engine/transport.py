"""How a client reaches its core: in the same process, here; in another process, in `process`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from adafocus.bundle.manifest import Manifest, Precision
from adafocus.service.engine.core import EngineCore
from adafocus.service.engine.messages import Commands, Report
from adafocus.service.engine.runners.base import Runner
from adafocus.service.frame_memory import FrameSegment

logger = logging.getLogger("adafocus.engine")

SWITCH_SECONDS = 0.0005
"""How long a thread may keep the interpreter's lock while another waits for it. Python's 5 ms are longer than many
batches take, and the engine may have to wait for the lock twice between two of them."""


class CoreLostError(Exception):
    """The core died while it had a video, and will be replaced: the video may be tried again then."""


@dataclass(frozen=True, slots=True)
class RunnerInfo:
    """What is known of a core's runner on the client's side.

    Attributes:
        backend: name as in ``--backend``.
        precision: of the loaded graphs.
        look_ahead: steps of one video that a batch may hold.
    """

    backend: str
    precision: Precision
    look_ahead: int


class Transport(Protocol):
    """A core as its client sees it. All calls come from one event loop's thread, and so do the reports."""

    @property
    def runner(self) -> RunnerInfo:
        """What the core runs on."""

    @property
    def slots(self) -> int:
        """Videos that may be in flight at once."""

    @property
    def first_slot(self) -> int:
        """Number of the first of them: 0, unless several clients share a core."""

    @property
    def pid(self) -> int:
        """Of the process that runs the model."""

    @property
    def alive(self) -> bool:
        """Started, and still serving."""

    @property
    def returns(self) -> bool:
        """Whether a core that is lost is replaced, so that its videos may be tried again."""

    async def back(self) -> None:
        """Wait until a core that was lost has been replaced; returns at once if none was, or none will be."""

    async def start(self, report: Callable[[Report], None]) -> None:
        """Warm the runner up, then begin to serve. ``report`` is called with each report until the core is closed.

        A report with every video in flight among its ``ended`` is not promised when the core is lost: `alive` is then
        false and ``report`` is called once with an empty report.
        """

    def post(self, commands: Commands, *, wake: bool = True) -> None:
        """Have commands carried out.

        Args:
            commands: what is to be done.
            wake: at once. If not, when the core wakes for another reason, or `wake` is called.
        """

    def wake(self) -> None:
        """Have commands carried out that were posted without waking the core, if any are left."""

    def attach(self, segment: FrameSegment) -> None:
        """Make a segment known before commands name it."""

    def detach(self, segment: FrameSegment) -> None:
        """Forget a segment in which no frame is waiting."""

    async def close(self) -> None:
        """End the core and give the device back. May be called again."""


class InProcess:
    """A core on a thread of this process. Nothing is pickled, and frames need not lie in shared memory.

    Args:
        manifest: of the bundle that the runner loaded.
        runner: the device.
        slots: videos in flight at once.
        max_batch: rows in one batch at most.
    """

    returns = False

    def __init__(self, manifest: Manifest, runner: Runner, *, slots: int, max_batch: int) -> None:
        self.slots = slots
        self.first_slot = 0
        self.pid = os.getpid()
        self.runner = RunnerInfo(runner.backend, runner.precision, runner.look_ahead)
        self._manifest = manifest
        self._runner = runner
        self._max_batch = max_batch
        self._core: EngineCore | None = None
        self._thread: threading.Thread | None = None
        self._failed = False
        self._closed = False

    @property
    def alive(self) -> bool:
        """See `Transport`."""
        return self._core is not None and not self._failed and not self._closed

    async def start(self, report: Callable[[Report], None]) -> None:
        """See `Transport`."""
        sys.setswitchinterval(min(SWITCH_SECONDS, sys.getswitchinterval()))
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()

        def tell(callback: Callable[..., object], *values: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody is left to be told
                loop.call_soon_threadsafe(callback, *values)

        def serve() -> None:
            try:
                self._runner.warm_up()
                self._core = EngineCore(
                    self._manifest,
                    self._runner,
                    slots=self.slots,
                    max_batch=self._max_batch,
                    report=lambda told: tell(report, told),
                )
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever starts the engine
                tell(_settle, ready, error)
                return
            tell(_settle, ready, None)
            try:
                self._core.run()
            except Exception:
                logger.exception("the engine's core has failed")
                self._failed = True
                tell(report, Report())

        self._thread = threading.Thread(target=serve, name="engine", daemon=True)
        self._thread.start()
        await asyncio.shield(ready)

    async def back(self) -> None:
        """See `Transport`; it does not come back."""

    def post(self, commands: Commands, *, wake: bool = True) -> None:
        """See `Transport`."""
        if self._core is not None:
            self._core.mailbox.post(commands, wake=wake)

    def wake(self) -> None:
        """See `Transport`."""
        if self._core is not None:
            self._core.mailbox.wake()

    def attach(self, segment: FrameSegment) -> None:
        """See `Transport`."""
        if self._core is not None:
            self._core.mailbox.attach(segment)

    def detach(self, segment: FrameSegment) -> None:
        """See `Transport`."""
        if self._core is not None:
            self._core.mailbox.detach(segment.number)

    async def close(self) -> None:
        """See `Transport`."""
        if self._closed:
            return
        self._closed = True
        if self._core is not None:
            self._core.mailbox.close()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        # Whoever still refers to this object does not keep the memory of batches and states.
        self._core = self._thread = None
        self._runner.close()


def _settle(ready: asyncio.Future[None], error: BaseException | None) -> None:
    if ready.done():
        return
    if error is None:
        ready.set_result(None)
    else:
        ready.set_exception(error)

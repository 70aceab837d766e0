"""Starts the engine and the fronts, starts them again when they end, and ends them together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from adafocus.bundle.store import Bundle, load_bundle
from adafocus.cli.fronts.board import Board
from adafocus.cli.fronts.messages import Broken, Order, Serving, Start
from adafocus.cli.server import BACKLOG, DRAIN_SIGNALS
from adafocus.service.cores import core_slots, load_core, make_runner, max_batch_of
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.shared_places import SharedPlaces
from adafocus.service.engine.wire import Begin, Failed, Inbox, Ready, packed
from adafocus.service.http.shared_accounts import SharedAccounts
from adafocus.service.resources import sized
from adafocus.service.settings import Settings
from adafocus.service.telemetry.metrics import layout_for
from adafocus.service.telemetry.series import SeriesMemory

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.1, 30.0
"""Before a process that has ended is started again; longer each time, unless it served for the longest of them."""

logger = logging.getLogger("adafocus.supervisor")


class FrontError(RuntimeError):
    """A front or the engine could not be started; the text says why."""


class Child:
    """A process and the socket to it.

    Args:
        process: that was started.
        control: this side of the socket.
        hear: called with each message that it sends.
    """

    def __init__(
        self, process: asyncio.subprocess.Process, control: socket.socket, hear: Callable[[object], None]
    ) -> None:
        self.process = process
        self.started = time.monotonic()
        self._control = control
        self._inbox = Inbox(control)
        self._hear = hear
        control.setblocking(False)
        asyncio.get_running_loop().add_reader(control, self._receive)

    @classmethod
    async def start(
        cls, module: str, arguments: Sequence[object], fds: Sequence[int], hear: Callable[[object], None]
    ) -> Child:
        """Start ``python -m module CONTROL arguments…`` with these descriptors.

        Raises:
            OSError: it cannot be started.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            # What this process can import, the other must find, too.
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", module, str(theirs.fileno()), *map(str, arguments)),
                pass_fds=(theirs.fileno(), *fds),
                stdin=subprocess.DEVNULL,
                env=environment,
            )
        return cls(process, ours, hear)

    def send(self, message: object) -> None:
        """Send a message, unless it has ended."""
        with contextlib.suppress(OSError):
            self._control.send(packed(message))

    def close(self) -> None:
        """End the connection, at which the process ends."""
        if self._control.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._control)
            self._control.close()

    async def wait(self) -> int:
        """Wait until it has ended, and hear what it said last; returns its exit code."""
        code = await self.process.wait()
        if self._control.fileno() >= 0:
            self._receive()
        self.close()
        return code

    def _receive(self) -> None:
        try:
            going = self._inbox.receive()
        except BlockingIOError:
            return
        for message in self._inbox.messages():
            self._hear(message)
        if not going:
            asyncio.get_running_loop().remove_reader(self._control)


class Supervisor:
    """The process that was started as ``adafocus serve --fronts N``.

    Args:
        settings: of the service.
        count: of fronts.
        listener: bound to the port.
        folder: for the engine's socket; nobody else may read it.

    Raises:
        BundleError: the bundle cannot be read.
    """

    def __init__(self, settings: Settings, count: int, listener: socket.socket, folder: Path) -> None:
        self._bundle: Bundle = load_bundle(settings.bundle)
        settings = sized([self._bundle], settings)
        self._settings = settings
        self._count = count
        self._listener = listener
        self._fronts: dict[int, Child] = {}
        self._hub: Child | None = None
        self._ending = False
        self._shares = [share_of(settings, number, count) for number in range(count)]
        layout = layout_for(self._bundle.manifest.steps, (self._bundle.manifest.name,))
        self._series_fd = SeriesMemory.share(layout, count)
        self._series = SeriesMemory(layout, count, self._series_fd)
        self._places_fd = SharedPlaces.create(count)
        self._all_places = sum(share.videos_in_flight for share in self._shares) + settings.max_queue
        self._places = SharedPlaces(self._places_fd, count, self._all_places)
        self._accounts_fd = SharedAccounts.create()
        self._board_fd = Board.create(count)
        self._board = Board(self._board_fd, count)
        self._max_batch = max_batch_of(self._bundle, settings)
        self._hub_slots = max(core_slots(share, self._max_batch) for share in self._shares)
        self._path = folder / "engine"
        self._hub_listener = socket.socket(socket.AF_UNIX)
        self._hub_listener.bind(str(self._path))
        self._hub_listener.listen(count)

    async def run(self) -> None:
        """Serve until a signal says otherwise.

        Raises:
            FrontError: the engine or a front could not be started.
        """
        loop = asyncio.get_running_loop()
        self._listener.listen(BACKLOG)
        for number in DRAIN_SIGNALS:
            loop.add_signal_handler(number, self._drain)
        loop.add_signal_handler(signal.SIGINT, self._order, Order.STOP)
        hub = asyncio.create_task(self._keep_hub())
        fronts = asyncio.gather(*(self._keep_front(number) for number in range(self._count)))
        try:
            await asyncio.wait((hub, fronts), return_when=asyncio.FIRST_COMPLETED)
            self._order(Order.STOP)
            if hub.done():
                await hub
            await fronts
        finally:
            self._order(Order.STOP)
            await asyncio.gather(fronts, return_exceptions=True)
            if self._hub is not None:
                self._hub.close()
            await asyncio.gather(hub, return_exceptions=True)

    def _drain(self) -> None:
        self._order(Order.STOP if self._ending else Order.DRAIN)

    def _order(self, order: Order) -> None:
        if not self._ending:
            logger.info("draining" if order is Order.DRAIN else "stopping")
        self._ending = True
        for front in self._fronts.values():
            front.send(order)

    async def _keep_hub(self) -> None:
        """Keep the engine running until the fronts have ended.

        Raises:
            FrontError: it could not be started the first time.
        """
        served, pause = False, FIRST_PAUSE_SECONDS
        while True:
            told: list[object] = []
            arguments = (self._hub_listener.fileno(), self._count)
            self._hub = hub = await Child.start(
                "adafocus.service.engine.hub", arguments, [self._hub_listener.fileno()], told.append
            )
            make = partial(load_core, self._settings, make_runner, self._bundle)
            hub.send(Begin(pickle.dumps(make), self._hub_slots, self._max_batch))
            logger.info("the engine has been started", extra={"fields": {"pid": hub.process.pid}})
            code = await hub.wait()
            if self._ending and not self._fronts:
                return
            failed = next((message for message in told if isinstance(message, Failed)), None)
            served = served or any(isinstance(message, Ready) for message in told)
            if not served:
                raise FrontError(str(failed.error if failed else RunnerError(f"the engine ended with code {code}")))
            logger.error("the engine has ended and is started again", extra={"fields": {"exit_code": code}})
            pause = await _pause(hub, pause)

    async def _keep_front(self, number: int) -> None:
        """Keep a front running until the service ends.

        Raises:
            FrontError: it could not be started the first time.
        """
        served, pause = False, FIRST_PAUSE_SECONDS
        while not self._ending:
            told: list[object] = []
            fds = (self._listener.fileno(), self._series_fd, self._places_fd, self._accounts_fd, self._board_fd)
            self._fronts[number] = front = await Child.start("adafocus.cli.fronts.front", (), fds, told.append)
            front.send(self._start(number, late=served or number > 0))
            logger.info("a front has been started", extra={"fields": {"front": number, "pid": front.process.pid}})
            if self._ending:
                front.send(Order.STOP)
            code = await front.wait()
            del self._fronts[number]
            self._series.end(number)
            self._places.release(number)
            self._board.withdraw(number)
            broken = next((message for message in told if isinstance(message, Broken)), None)
            served = served or any(isinstance(message, Serving) for message in told)
            if self._ending:
                return
            if not served:
                raise FrontError(broken.reason if broken else f"a front ended with code {code} before it could serve")
            fields = {"front": number, "exit_code": code}
            logger.error("a front has ended and is started again", extra={"fields": fields})
            pause = await _pause(front, pause)

    def _start(self, number: int, *, late: bool) -> Start:
        return Start(
            settings=self._shares[number],
            number=number,
            count=self._count,
            hub=self._path,
            hub_slots=self._hub_slots,
            places=self._all_places,
            listener=self._listener.fileno(),
            series=self._series_fd,
            places_fd=self._places_fd,
            accounts=self._accounts_fd,
            board=self._board_fd,
            late=late,
        )


def share_of(settings: Settings, number: int, count: int) -> Settings:
    """The settings of one front: its share of decoders, slots and memory; every front has at least one of each."""

    def share(whole: int) -> int:
        return max(1, whole // count + (number < whole % count))

    slots = None if settings.slots is None else share(settings.slots)
    memory = share(settings.frame_memory_bytes)
    workers = share(settings.decode_workers)
    return settings.model_copy(update={"decode_workers": workers, "slots": slots, "frame_memory_bytes": memory})


async def _pause(child: Child, pause: float) -> float:
    """Wait before a process is started again; returns how long to wait the next time."""
    if time.monotonic() - child.started > LONGEST_PAUSE_SECONDS:
        pause = FIRST_PAUSE_SECONDS
    await asyncio.sleep(pause)
    return min(2 * pause, LONGEST_PAUSE_SECONDS)


def supervise(settings: Settings, count: int, listener: socket.socket) -> None:
    """Serve with several fronts until a signal says otherwise.

    Raises:
        BundleError: the bundle cannot be read.
        FrontError: the engine or a front could not be started.
    """
    with tempfile.TemporaryDirectory(prefix="adafocus-") as folder:
        supervisor = Supervisor(settings, count, listener, Path(folder))
        asyncio.run(supervisor.run())

"""A core that serves the fronts, which are processes: ``python -m adafocus.service.engine.hub CONTROL LISTENER``.

It reads from the control socket what to run, tells there when it is ready, and ends when that socket does. Fronts
connect to the listener. Each has slots and segment numbers of its own, so that a message says by its numbers whose it
is. A front that is gone takes its videos with it; one that comes in its place is welcome when they have left.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import struct
import sys
import threading

from adafocus.service.engine.core import EngineCore
from adafocus.service.engine.core_process import first_message, open_core, run_core
from adafocus.service.engine.messages import Commands, Report
from adafocus.service.engine.wire import Attach, Begin, Detach, Failed, Hello, Inbox, Ready, packed
from adafocus.service.frame_memory import FrameSegment

SEGMENTS_EACH = 1 << 40
"""A front numbers its segments from this times its own number."""

SEND_SECONDS = 2
"""A front that reads nothing for so long is cut off, because the core waits for it."""

logger = logging.getLogger("adafocus.engine")


class _Front:
    """A connected front.

    Attributes:
        number: which of the fronts it is.
        connection: to it.
        segments: that it has made known.
        welcome: whether it has been told that the core is ready; it sends nothing before.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.number = -1
        self.connection = connection
        self.inbox = Inbox(connection)
        self.segments: set[int] = set()
        self.welcome = False

    def send(self, message: object) -> None:
        with contextlib.suppress(
            OSError
        ):  # it is gone, or does not read: the end of the stream is dealt with elsewhere
            try:
                self.connection.sendall(packed(message))
            except BlockingIOError:
                self.connection.shutdown(socket.SHUT_RDWR)


class Hub:
    """Passes commands of the fronts to the core, and its reports to the fronts.

    `report` is called on the core's thread, everything else on one other.

    Args:
        fronts: how many there may be.
        slots: of each.
    """

    def __init__(self, fronts: int, slots: int) -> None:
        self._slots = slots
        self._fronts: list[_Front | None] = [None] * fronts
        self._busy: list[set[int]] = [set() for _ in range(fronts)]  # slots that the core has not freed yet
        self._lock = threading.Lock()
        self._core: EngineCore | None = None
        self._ready: Ready | None = None

    def begin(self, core: EngineCore, ready: Ready) -> None:
        """The core runs: whoever has connected is welcome."""
        with self._lock:
            self._core, self._ready = core, ready
            for number in range(len(self._fronts)):
                self._welcome(number)

    def report(self, told: Report) -> None:
        """Tell each front what has happened to its videos."""
        shares = self._shares(told)
        with self._lock:
            for number, share in enumerate(shares):
                front = self._fronts[number]
                if share and front is not None and front.welcome:
                    front.send(share)
                if share.freed:
                    self._busy[number].difference_update(share.freed)
                    self._welcome(number)

    def obey(self, front: _Front, message: object) -> None:
        """Carry out what a front says.

        Raises:
            ValueError: there is no such front.
        """
        core = self._core
        match message:
            case Hello():
                self._greet(front, message.front)
            case Commands() if core is not None:
                with self._lock:
                    self._busy[front.number].update(request.slot for request in message.submitted)
                core.mailbox.post(message)
            case Attach() if core is not None:
                fd = front.inbox.fds.popleft()
                core.mailbox.attach(FrameSegment.attach(fd, message.places, message.side, message.number))
                front.segments.add(message.number)
                os.close(fd)
            case Detach() if core is not None:
                core.mailbox.detach(message.number)
                front.segments.discard(message.number)

    def lose(self, front: _Front) -> None:
        """A front is gone: its videos leave, and its memory is forgotten."""
        with self._lock:
            number = front.number
            if number < 0 or self._fronts[number] is not front:
                return
            self._fronts[number] = None
            left = sorted(self._busy[number])
        if self._core is not None:
            self._core.mailbox.post(Commands(cancelled=left))
            for segment in front.segments:
                self._core.mailbox.detach(segment)

    def _greet(self, front: _Front, number: int) -> None:
        if not 0 <= number < len(self._fronts):
            raise ValueError(f"a front's number must be 0..{len(self._fronts) - 1}, got {number}")
        before = self._fronts[number]
        if before is not None:
            self.lose(before)
        with self._lock:
            front.number = number
            self._fronts[number] = front
            self._welcome(number)

    def _welcome(self, number: int) -> None:
        front = self._fronts[number]
        if front is not None and not front.welcome and self._ready is not None and not self._busy[number]:
            front.welcome = True
            front.send(self._ready)

    def _shares(self, told: Report) -> list[Report]:
        shares = [Report() for _ in self._fronts]
        # Whoever counts them counts them for all.
        shares[next((n for n, front in enumerate(self._fronts) if front is not None), 0)].runs = told.runs
        for name in ("gathered", "stepped"):
            for slots, counts in getattr(told, name):
                for number, share in enumerate(shares):
                    first, end = number * self._slots, (number + 1) * self._slots
                    pairs = [(s, c) for s, c in zip(slots, counts, strict=True) if first <= s < end]
                    if pairs:
                        getattr(share, name).append(([s for s, _ in pairs], [c for _, c in pairs]))
        for slot, table in told.watched:
            shares[slot // self._slots].watched.append((slot, table))
        for ended in told.ended:
            shares[ended.slot // self._slots].ended.append(ended)
        for slot in told.glanced:
            shares[slot // self._slots].glanced.append(slot)
        for slot in told.freed:
            shares[slot // self._slots].freed.append(slot)
        return shares


def main() -> None:
    """Serve until the control socket is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # whoever started this process says when it ends
        signal.signal(number, signal.SIG_IGN)
    control, listener = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    fronts = int(sys.argv[3])
    with contextlib.suppress(OSError):
        serve(control, listener, fronts)


def serve(control: socket.socket, listener: socket.socket, fronts: int) -> None:
    """Run the core that the control socket asks for; ``Begin.slots`` are those of each front."""
    begin = first_message(Inbox(control))
    if begin is None:
        return
    hub = Hub(fronts, begin.slots)
    opened = open_core(Begin(begin.make, fronts * begin.slots, begin.max_batch), hub.report)
    if isinstance(opened, Failed):
        control.sendall(packed(opened))
        return
    ready, core, runner = opened
    thread = threading.Thread(target=run_core, args=(core, control), name="engine")
    thread.start()
    control.sendall(packed(ready))
    hub.begin(core, ready)
    try:
        _listen(control, listener, hub)
    finally:
        core.mailbox.close()
        thread.join()
        runner.close()


def _listen(control: socket.socket, listener: socket.socket, hub: Hub) -> None:
    """Read what fronts say, and take new ones in, until the control socket ends."""
    selector = selectors.DefaultSelector()
    listener.setblocking(False)
    selector.register(control, selectors.EVENT_READ)
    selector.register(listener, selectors.EVENT_READ)
    try:
        while True:
            for key, _ in selector.select():
                if key.fileobj is control:
                    return
                if key.fileobj is listener:
                    _accept(listener, selector)
                elif not _hear(hub, key.data):
                    selector.unregister(key.fileobj)
                    hub.lose(key.data)
                    key.data.connection.close()
    finally:
        for front in [key.data for key in selector.get_map().values() if key.data is not None]:
            front.connection.close()
        selector.close()


def _accept(listener: socket.socket, selector: selectors.BaseSelector) -> None:
    """Take a front in."""
    with contextlib.suppress(BlockingIOError):
        connection, _ = listener.accept()
        connection.setblocking(True)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_SECONDS, 0))
        selector.register(connection, selectors.EVENT_READ, _Front(connection))


def _hear(hub: Hub, front: _Front) -> bool:
    """Read what a front has sent; False if it is gone."""
    try:
        going = front.inbox.receive()
        for message in front.inbox.messages():
            hub.obey(front, message)
    except Exception:
        logger.exception("a front is cut off")
        return False
    return going


if __name__ == "__main__":
    main()

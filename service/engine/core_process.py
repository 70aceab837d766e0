"""The process of a core that serves a client elsewhere: ``python -m adafocus.service.engine.core_process FD``.

It reads what it is to run from the socket, tells when it is ready, and ends when the socket does: with its client.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import socket
import sys
import threading
from collections.abc import Callable

from adafocus.service.engine.core import EngineCore
from adafocus.service.engine.messages import Commands, Report
from adafocus.service.engine.runners.base import Runner, RunnerError
from adafocus.service.engine.transport import RunnerInfo
from adafocus.service.engine.wire import Attach, Begin, Detach, Failed, Inbox, MakeCore, Ready, packed
from adafocus.service.frame_memory import FrameSegment

logger = logging.getLogger("adafocus.engine")


def main() -> None:
    """Serve until the client closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the client, too, which then closes
    connection = socket.socket(fileno=int(sys.argv[1]))
    with contextlib.suppress(OSError):
        serve(connection)


def serve(connection: socket.socket, made: Callable[[EngineCore], None] = lambda _: None) -> None:
    """Run the core that the other end asks for, until that end is closed; ``made`` is told of the core."""
    inbox = Inbox(connection)
    begin = _first(inbox)
    if begin is None:
        return
    lock = threading.Lock()

    def send(message: object) -> None:
        with lock:
            connection.sendall(packed(message))

    def report(told: Report) -> None:
        with contextlib.suppress(OSError):  # nobody is left to be told; the end of the stream ends this process
            send(told)

    opened = _opened(begin, report)
    if isinstance(opened, Failed):
        send(opened)
        return
    ready, core, runner = opened
    made(core)
    thread = threading.Thread(target=_run, args=(core, connection), name="engine")
    thread.start()
    send(ready)
    try:
        _obey(inbox, core)
    finally:
        core.close()
        thread.join()
        runner.close()


def _opened(begin: Begin, report: Callable[[Report], None]) -> tuple[Ready, EngineCore, Runner] | Failed:
    try:
        make: MakeCore = pickle.loads(begin.make)  # noqa: S301 - from this service's own process
        manifest, runner = make()
        runner.warm_up()
    except Exception as error:  # noqa: BLE001 - it belongs to whoever starts the engine
        return Failed(error if isinstance(error, RunnerError) else RunnerError(f"{type(error).__name__}: {error}"))
    core = EngineCore(manifest, runner, slots=begin.slots, max_batch=begin.max_batch, report=report)
    return Ready(RunnerInfo(runner.backend, runner.precision, runner.look_ahead), manifest), core, runner


def _run(core: EngineCore, connection: socket.socket) -> None:
    try:
        core.run()
    except Exception:
        logger.exception("the engine's core has failed")
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # which tells the client, and ends this process


def _first(inbox: Inbox) -> Begin | None:
    while inbox.receive():
        for message in inbox.messages():
            if isinstance(message, Begin):
                return message
    return None


def _obey(inbox: Inbox, core: EngineCore) -> None:
    """Pass on what the client says, until it closes the socket."""
    going = True
    while going:
        for message in inbox.messages():
            match message:
                case Commands():
                    core.post(message)
                case Attach():
                    fd = inbox.fds.popleft()
                    core.attach(FrameSegment.attach(fd, message.places, message.side, message.number))
                    os.close(fd)
                case Detach():
                    core.detach(message.number)
        going = inbox.receive()


if __name__ == "__main__":
    main()

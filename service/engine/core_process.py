"""Runs a core for a client in another process: ``python -m adafocus.service.engine.core_process FD``.

It reads what it is to run from the socket, tells when it is ready, and ends when the socket does: with its client.
"""

from __future__ import annotations

import contextlib
import gc
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
    begin = first_message(inbox)
    if begin is None:
        return
    lock = threading.Lock()

    def send(message: object) -> None:
        with lock:
            connection.sendall(packed(message))

    def report(told: Report) -> None:
        with contextlib.suppress(OSError):  # nobody is left to be told; the end of the stream ends this process
            send(told)

    opened = open_core(begin, report)
    if isinstance(opened, Failed):
        send(opened)
        return
    ready, core, runner = opened
    gc.freeze()  # what is there now stays: collections need not look at it again and again
    made(core)
    thread = threading.Thread(target=run_core, args=(core, connection), name="engine")
    thread.start()
    send(ready)
    try:
        _obey(inbox, core)
    finally:
        core.mailbox.close()
        thread.join()
        runner.close()


def open_core(begin: Begin, report: Callable[[Report], None]) -> tuple[Ready, EngineCore, Runner] | Failed:
    """Load the model and make a core of it."""
    try:
        make: MakeCore = pickle.loads(begin.make)  # noqa: S301 - from this service's own process
        manifest, runner = make()
        runner.warm_up()
    except Exception as error:  # noqa: BLE001 - it belongs to whoever starts the engine
        return Failed(error if isinstance(error, RunnerError) else RunnerError(f"{type(error).__name__}: {error}"))
    core = EngineCore(manifest, runner, slots=begin.slots, max_batch=begin.max_batch, report=report)
    return Ready(RunnerInfo(runner.backend, runner.precision, runner.look_ahead), manifest), core, runner


def run_core(core: EngineCore, connection: socket.socket) -> None:
    """Run the core; if it fails, the connection is ended, and with it this process."""
    try:
        core.run()
    except Exception:
        logger.exception("the engine's core has failed")
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)  # which tells the client, and ends this process


def first_message(inbox: Inbox) -> Begin | None:
    """What is to be run; None if the other end is closed before it says so."""
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
                    core.mailbox.post(message)
                case Attach():
                    fd = inbox.fds.popleft()
                    core.mailbox.attach(FrameSegment.attach(fd, message.places, message.side, message.number))
                    os.close(fd)
                case Detach():
                    core.mailbox.detach(message.number)
        going = inbox.receive()


if __name__ == "__main__":
    main()

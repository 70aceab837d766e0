"""One front: ``python -m adafocus.cli.fronts.front CONTROL``, started by `cli.fronts.supervisor`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Iterator

import uvicorn

from adafocus.bundle.store import BundleError, read_manifest
from adafocus.cli.fronts.board import Board, Spreading
from adafocus.cli.fronts.messages import Broken, Order, Serving, Start
from adafocus.cli.server import DRAIN_SIGNALS, DrainingServer, server_config, spare_the_collector
from adafocus.service.app import Front, create_app
from adafocus.service.engine.shared_places import SharedPlaces
from adafocus.service.engine.wire import Inbox, packed
from adafocus.service.http.keys import KeyFileError
from adafocus.service.http.shared_accounts import SharedAccounts
from adafocus.service.http.state import ServerState
from adafocus.service.runtime import SharedEngine
from adafocus.service.telemetry import logs
from adafocus.service.telemetry.metrics import layout_for
from adafocus.service.telemetry.series import SeriesMemory
from adafocus.service.telemetry.tracing import TracingError

ACCEPT_PAUSE_SECONDS = 1.0
"""How long no connection is taken when there is no descriptor for one."""

YIELD_SECONDS = 0.005
"""How long a connection is left to a front that has fewer."""

NO_MORE = 1 << 60
"""Connections that a front claims to have when it takes no more."""

logger = logging.getLogger("adafocus.front")


class FrontServer(DrainingServer):
    """A server that takes connections from a socket that others take from as well, and obeys its supervisor.

    It takes one connection at a time, so that a front that is busy leaves the next one to another.

    Args:
        config: of the server.
        state: of the service.
        listener: the shared socket.
        control: to the supervisor; when it ends, this process does.
        inbox: of that socket, from which the first message has been taken.
        board: tells how many connections the other fronts have.
        late: take no connections before `begin_accepting` is called.
    """

    tick_seconds = 0.1  # the other fronts compare their numbers of connections with this one's

    def __init__(
        self,
        config: uvicorn.Config,
        state: ServerState,
        listener: socket.socket,
        control: socket.socket,
        inbox: Inbox,
        board: Board,
        *,
        late: bool,
    ) -> None:
        super().__init__(config, state)
        self._listener = listener
        self._control = control
        self._inbox = inbox
        self._board = board
        self._late = late
        self._accepting = False
        self._accepted: set[asyncio.Task[object]] = set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ignore signals: a terminal or a supervisor of services sends them to all processes, and only one decides."""
        for number in (signal.SIGINT, *DRAIN_SIGNALS):
            signal.signal(number, signal.SIG_IGN)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and take connections."""
        await super().startup(sockets=[])
        self._listener.setblocking(False)
        self._control.setblocking(False)
        asyncio.get_running_loop().add_reader(self._control, self._hear)
        self._obey()  # what came with the first message
        if not self._late:
            self.begin_accepting()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more connections, and end."""
        asyncio.get_running_loop().remove_reader(self._listener)
        self._accepting = False
        self._board.publish(NO_MORE)
        await super().shutdown(sockets=[])

    def begin_accepting(self) -> None:
        """Take connections from now on."""
        if not self.should_exit:
            self._accepting = True
            self._board.publish(len(self.server_state.connections))
            asyncio.get_running_loop().add_reader(self._listener, self._offer)

    @property
    def is_crowded(self) -> bool:
        """Whether this front has many more connections than another."""
        return self._board.is_crowded(len(self.server_state.connections))

    async def on_tick(self, counter: int) -> bool:
        """Tell how many connections there are."""
        if self._accepting:
            self._board.publish(len(self.server_state.connections))
        return await super().on_tick(counter)

    def tell(self, message: object) -> None:
        """Tell the supervisor."""
        with contextlib.suppress(OSError):
            self._control.send(packed(message))

    def _offer(self) -> None:
        """Take a connection, or leave it for a moment to a front that has fewer."""
        if self._board.yields_next(len(self.server_state.connections) + len(self._accepted)):
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._listener)
            loop.call_later(YIELD_SECONDS, self._accept_after_all)
        else:
            self._accept()

    def _accept_after_all(self) -> None:
        if self._accepting:
            self._accept()
            self.begin_accepting()

    def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, ConnectionError):  # another front was faster, or the client has gone
            return
        except OSError as error:
            logger.error("no connection can be taken: %s", error)
            loop.remove_reader(self._listener)
            loop.call_later(ACCEPT_PAUSE_SECONDS, self.begin_accepting)
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        self._accepted.add(task)
        task.add_done_callback(self._accepted.discard)
        self._board.publish(len(self.server_state.connections) + len(self._accepted))

    def _protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg] # uvicorn's own
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        return protocol

    def _hear(self) -> None:
        try:
            going = self._inbox.receive()
        except BlockingIOError:
            return
        self._obey()
        if not going:
            asyncio.get_running_loop().remove_reader(self._control)
            logger.error("the supervisor has ended; this front ends, too")
            self.stop()

    def _obey(self) -> None:
        for order in self._inbox.messages():
            if order is Order.DRAIN:
                self.drain(asyncio.get_running_loop())
            elif order is Order.STOP:
                self.stop()


def main() -> None:
    """Serve until the supervisor says so, or ends."""
    control = socket.socket(fileno=int(sys.argv[1]))
    inbox = Inbox(control)
    starts = (message for _ in iter(inbox.receive, False) for message in inbox.messages())
    start = next(starts, None)
    if not isinstance(start, Start):
        return
    logs.configure()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    serve(start, control, inbox)


def serve(start: Start, control: socket.socket, inbox: Inbox) -> None:
    """Run one front."""

    def ready() -> None:
        spare_the_collector()
        server.tell(Serving())
        if start.late:
            server.begin_accepting()

    def broken(error: Exception) -> None:
        server.tell(Broken(str(error)))
        server.stop()

    try:
        app = create_app(start.settings, front=_front(start), on_failure=broken, on_ready=ready)
    except (BundleError, KeyFileError, TracingError) as error:
        control.sendall(packed(Broken(str(error))))
        return
    board = Board(start.board, start.count, start.number)
    config = server_config(Spreading(app, lambda: server.is_crowded), start.settings)
    listener = socket.socket(fileno=start.listener)
    server = FrontServer(config, app.state.service, listener, control, inbox, board, late=start.late)
    server.run()


def _front(start: Start) -> Front:
    manifest = read_manifest(start.settings.bundle)
    layout = layout_for(manifest.steps, (manifest.name,))
    places = SharedPlaces(start.places_fd, start.count, start.places, start.number)
    return Front(
        number=start.number,
        engine=SharedEngine(start.hub, start.number, start.hub_slots, places),
        series=SeriesMemory(layout, start.count, start.series),
        accounts=SharedAccounts(start.accounts),
    )


if __name__ == "__main__":
    main()

"""The worker that a session holds, and the watchdog that looks after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Protocol

from adafocus.service.decode.process import WorkerGoneError
from adafocus.service.decode.watchdog import Verdict, Watchdog, WorkerTimeouts


class Worker(Protocol):
    """The part of a worker that a session needs. `WorkerProcess` implements it."""

    def send(self, message: Mapping[str, object], fds: Sequence[int] = ()) -> None:
        """Send a message, and descriptors with it; raises `WorkerGoneError`."""

    def cpu_seconds(self) -> float:
        """Processor time that the worker has used."""

    def starved(self) -> bool:
        """Whether the worker would use the processor if others left it some."""


class HeldWorker:
    """A worker with a job, or none: messages to one that has ended are dropped, because the pool learns of its end.

    Args:
        patience: time limits of a worker.
    """

    def __init__(self, patience: WorkerTimeouts) -> None:
        self._patience = patience
        self._worker: Worker | None = None
        self._watchdog: Watchdog | None = None

    @property
    def there(self) -> bool:
        """Whether a worker has the job."""
        return self._worker is not None

    def hold(self, worker: Worker, on_hang: Callable[[Verdict], None]) -> None:
        """Look after a worker that has got the job; ``on_hang`` is called if it exceeds a limit, until it is let go."""
        self._worker = worker
        self._watchdog = Watchdog(self._patience, worker.cpu_seconds, on_hang, worker.starved)

    def let_go(self) -> None:
        """Forget the worker, which has ended or is free."""
        self._worker = None
        if self._watchdog is not None:
            self._watchdog.stop()
            self._watchdog = None

    def say(self, message: dict[str, object]) -> None:
        """Send a message if there is a worker."""
        if self._worker is not None:
            with suppress(WorkerGoneError):
                self._worker.send(message)

    def heard(self, *, owes: bool) -> None:
        """Start the worker's time anew: it was heard from, or told something.

        Args:
            owes: whether it has to send something next.
        """
        if self._watchdog is not None:
            self._watchdog.heard(owes=owes)

    def close(self, *, silent: bool = False) -> None:
        """Tell the worker to end the job, and limit the time that it takes to do so.

        Args:
            silent: it need not say that it has; `let_go` of it.
        """
        self.say({"type": "close", "silent": silent})
        if self._watchdog is not None:
            self._watchdog.closing()

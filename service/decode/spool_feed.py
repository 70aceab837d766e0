"""Tells a decode worker about the bytes of its video that it waits for."""

from __future__ import annotations

from adafocus.service.decode.intervals import Intervals
from adafocus.service.decode.messages import Need, ProtocolError
from adafocus.service.decode.sparse_spool import SparseSpool
from adafocus.service.decode.spool import Spool


class SpoolFeed:
    """What one worker after the other knows of a spool, and what it waits for.

    Args:
        spool: of the upload; may still be growing.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._need: Need | None = None
        self.size, self.complete = spool.size, spool.complete
        """What the worker has been told of a spool that is filled from its start."""
        self._told = Intervals()  # of a sparse spool

    @property
    def waits(self) -> bool:
        """Whether the worker waits for bytes."""
        return self._need is not None

    def restart(self) -> None:
        """Begin anew, with a worker that is told ``size`` and ``complete`` and waits for nothing."""
        self.size, self.complete = self._spool.size, self._spool.complete
        self._told = Intervals()
        self._need = None

    def take(self, need: Need) -> None:
        """Keep what the worker waits for.

        Raises:
            ProtocolError: it was told of these bytes, waits for others already, or asks for what cannot be.
        """
        # More bytes may have arrived than the worker knows of.
        told = self.complete or (need.size is not None and need.size <= self.size)
        if self._spool.is_sparse:
            end_of_file = self._spool.expected_bytes or 0
            if need.start is None or need.size is None or not need.start < need.size <= end_of_file:
                raise ProtocolError("the worker must ask for a range of the file")
            told = self._told.covers(need.start, need.size)
        if self._need is not None or told:
            raise ProtocolError("the worker waits for bytes that it was told of")
        self._need = need

    def fetch(self) -> None:
        """Have the bytes brought that the worker waits for, where they do not come by themselves."""
        need = self._need
        if need is not None and need.start is not None and need.size is not None:
            self._spool.want(need.start, need.size)

    def more(self) -> dict[str, object] | None:
        """Return the message for a worker whose bytes are there now; None if it does not wait, or they are not."""
        need = self._need
        if need is None:
            return None
        start = need.start or 0
        enough = need.size is not None and self._spool.covers(start, need.size)
        if not enough and not self._spool.complete:
            return None
        self._need = None
        if isinstance(self._spool, SparseSpool):
            stop = self._spool.present.end_of(start)
            self._told.add(start, stop)
            return {"type": "more", "start": start, "size": stop, "complete": False}
        self.size, self.complete = self._spool.size, self._spool.complete
        return {"type": "more", "size": self.size, "complete": self.complete}

"""The places that requests to several processes of one service hold, counted in memory that they share."""

from __future__ import annotations

import mmap

import numpy as np

from adafocus.service import shared_memory

_ITEM_BYTES = 8


class SharedPlaces:
    """The places that requests of all processes hold. Implements `service.engine.admission.Places`.

    Args:
        fd: of memory that `create` made.
        processes: that share the places.
        places: that there are in all.
        row: this process's; None for one that only watches over the others.
    """

    def __init__(self, fd: int, processes: int, places: int, row: int | None = None) -> None:
        self._fd = fd
        self._places = places
        self._row = row
        memory = mmap.mmap(fd, processes * _ITEM_BYTES)
        self._taken = np.frombuffer(memory, dtype=np.int64)
        if row is not None:
            self._taken[row] = 0

    @staticmethod
    def create(processes: int) -> int:
        """Make the memory; returns its descriptor.

        Raises:
            OSError: there is none.
        """
        return shared_memory.create("places", processes * _ITEM_BYTES)

    @property
    def taken(self) -> int:
        """Places that are taken now."""
        return int(self._taken.sum())

    def take(self) -> bool:
        """See `Places`."""
        if self.taken < self._places - len(self._taken):  # even if every process takes one now
            self._add(1)
            return True
        with shared_memory.locked(self._fd, 0):
            free = self.taken < self._places
            if free:
                self._add(1)
            return free

    def give_back(self) -> None:
        """See `Places`."""
        self._add(-1)

    def release(self, row: int) -> None:
        """Free what a process held that has ended."""
        self._taken[row] = 0

    def _add(self, count: int) -> None:
        if self._row is None:
            raise ValueError("a process without a row takes no places")
        self._taken[self._row] += count

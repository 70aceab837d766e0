"""What the callers of several processes of one service have used up of their limits, in memory that they share."""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from adafocus.service import shared_memory
from adafocus.service.http.rate_limit import Account

_ITEM_BYTES = 8
_SETS, _WAYS = 2048, 8
"""Callers that are remembered: in each of the sets, those that came last."""


class SharedAccounts:
    """What callers of all processes have used up. Implements `service.http.rate_limit.Accounts`.

    Args:
        fd: of memory that `create` made.
    """

    _KEY_BYTES = 16

    def __init__(self, fd: int) -> None:
        self._fd = fd
        memory = mmap.mmap(fd, self._size())
        self._key = memory[: self._KEY_BYTES]
        self._table = np.frombuffer(memory, dtype=np.int64, offset=self._KEY_BYTES).reshape(_SETS, _WAYS, 2)

    @classmethod
    def create(cls) -> int:
        """Make the memory; returns its descriptor.

        Raises:
            OSError: there is none.
        """
        fd = shared_memory.create("accounts", cls._size())
        os.pwrite(fd, os.urandom(cls._KEY_BYTES), 0)
        return fd

    @classmethod
    def _size(cls) -> int:
        return cls._KEY_BYTES + _SETS * _WAYS * 2 * _ITEM_BYTES

    @contextmanager
    def of(self, caller: str, now: int) -> Iterator[Account]:
        """See `Accounts`. Callers are told apart by 63 bits of a keyed hash."""
        digest = hashlib.blake2b(caller.encode(), digest_size=8, key=self._key).digest()
        name = int.from_bytes(digest) >> 1 or 1
        number = name % _SETS
        with shared_memory.locked(self._fd, number):
            ways = self._table[number]
            known = np.flatnonzero(ways[:, 0] == name)
            # In place of the one who has had its full limit for longest.
            way = int(known[0]) if len(known) else int(ways[:, 1].argmin())
            account = Account(int(ways[way, 1]) if len(known) else now)
            yield account
            ways[way] = name, account.full_at

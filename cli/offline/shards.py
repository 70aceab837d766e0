"""Divides inputs between runs by a hash of their names."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Self

_MOST_SHARDS = 100_000


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several runs that divide their inputs.

    A name belongs to shard ``first 8 bytes of its SHA-256, as a big-endian number, modulo the number of shards``. Which
    shard that is depends on nothing but the name.

    Attributes:
        index: of this run, from 0.
        count: of all runs.
    """

    index: int = 0
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the shard that ``I/N`` names.

        Raises:
            ValueError: it is not of this form, or I is not below N.
        """
        found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)
        if not found:
            raise ValueError(f"must be I/N, such as 0/8 for the first of eight shards, got {text!r}")
        index, count = int(found[1]), int(found[2])
        if not 0 < count <= _MOST_SHARDS or index >= count:
            raise ValueError(f"I counts from 0 and must be below N, and N must be at most {_MOST_SHARDS}, got {text!r}")
        return cls(index, count)

    def has(self, name: str) -> bool:
        """Tell whether an input belongs to this shard."""
        if self.count == 1:
            return True
        digest = hashlib.sha256(name.encode()).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index

    @property
    def suffix(self) -> str:
        """What tells the files of this shard from those of the others; empty if there is only one."""
        return "" if self.count == 1 else f"-{self.index}-of-{self.count}"

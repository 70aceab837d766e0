"""A fair queue: whose turn it is by the processor time that each caller has used, not by who came first. Pure.

Start-time fair queueing (Goyal, Vin and Cheng, 1996): an item's tag is the moment, in processor seconds, at which its
caller's share would begin to serve it, and the smallest tag is next. A caller that was away has saved nothing up, and
one that sends a hundred requests at once waits for its own. Within one caller, the most urgent is next.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Item = TypeVar("Item")

_CALLERS_KEPT = 1024
"""Callers with nothing in the queue that are remembered for what they have used."""


@dataclass(slots=True)
class _Caller(Generic[Item]):
    finish: float = 0.0
    items: list[tuple[float, float, Item]] = field(default_factory=list)  # due, arrived, item


class FairQueue(Generic[Item]):
    """Items that wait, each of one caller."""

    def __init__(self) -> None:
        self._callers: dict[str, _Caller[Item]] = {}
        self._now = 0.0  # the tag of what was taken last
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Item]:
        return (item for caller in self._callers.values() for _, _, item in caller.items)

    def callers(self) -> set[str]:
        """The callers that wait."""
        return {name for name, known in self._callers.items() if known.items}

    def waiting(self, caller: str) -> int:
        """How many items of a caller wait."""
        known = self._callers.get(caller)
        return 0 if known is None else len(known.items)

    def add(self, caller: str, item: Item, *, due: float, arrived: float) -> None:
        """Let an item wait; within its caller the earliest due comes first, then the one that arrived first."""
        self._callers.setdefault(caller, _Caller(self._now)).items.append((due, arrived, item))
        self._size += 1

    def discard(self, caller: str, item: Item) -> bool:
        """Remove an item; whether it was there."""
        known = self._callers.get(caller)
        for place, (_, _, found) in enumerate(known.items if known else ()):
            if found is item and known is not None:
                del known.items[place]
                self._size -= 1
                return True
        return False

    def take(self, cost: float, *, among: set[str] | None = None, newest: bool = False) -> Item | None:
        """Remove and return the next item, and charge its caller; None if there is none.

        Args:
            cost: processor seconds that it is expected to take; `charge` corrects it.
            among: only of these callers.
            newest: of the caller whose turn it is, the item that arrived last instead of the most urgent one.
        """
        tags = [
            (max(known.finish, self._now), name)
            for name, known in self._callers.items()
            if known.items and (among is None or name in among)
        ]
        if not tags:
            return None
        self._now, name = min(tags)
        known = self._callers[name]
        places = range(len(known.items))
        if newest:
            first = max(places, key=lambda place: known.items[place][1])
        else:
            first = min(places, key=lambda place: known.items[place][:2])
        _, _, item = known.items.pop(first)
        self._size -= 1
        self.charge(name, cost)
        return item

    def charge(self, caller: str, seconds: float) -> None:
        """Count processor seconds that a caller has used beyond what it was charged; negative: it has used less."""
        known = self._callers.setdefault(caller, _Caller(self._now))
        known.finish = max(known.finish, self._now) + seconds if seconds > 0 else known.finish + seconds
        self._forget()

    def first_arrival(self) -> float:
        """When the item arrived that has waited longest; infinity if none waits."""
        return min((arrived for known in self._callers.values() for _, arrived, _ in known.items), default=float("inf"))

    def take_older(self, than: float) -> list[Item]:
        """Remove and return the items that arrived before a moment, except the newest of all if it is one of them."""
        ages = [arrived for known in self._callers.values() for _, arrived, _ in known.items]
        before = min(than, max(ages, default=than))
        old = []
        for known in self._callers.values():
            old += [item for _, arrived, item in known.items if arrived < before]
            known.items = [waits for waits in known.items if waits[1] >= before]
        self._size -= len(old)
        return old

    def longest(self) -> str | None:
        """The caller with the most items that wait; None if none waits."""
        waiting = [(len(known.items), name) for name, known in self._callers.items() if known.items]
        return max(waiting)[1] if waiting else None

    def take_last(self, caller: str) -> Item | None:
        """Remove and return the item of a caller that would come last; None if none waits."""
        known = self._callers.get(caller)
        if known is None or not known.items:
            return None
        last = max(range(len(known.items)), key=lambda place: known.items[place][:2])
        self._size -= 1
        return known.items.pop(last)[2]

    def _forget(self) -> None:
        """Forget callers whose past no longer matters, and of the others the ones that have used least."""
        if len(self._callers) <= _CALLERS_KEPT:
            return
        idle = [(known.finish, name) for name, known in self._callers.items() if not known.items]
        for finish, name in sorted(idle):
            if finish > self._now and len(self._callers) <= _CALLERS_KEPT // 2:
                return
            del self._callers[name]

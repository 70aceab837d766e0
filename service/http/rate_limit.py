"""A token bucket for each caller that refills evenly. Pure; the clock is an argument."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

WINDOW_SECONDS = 60
NANOSECONDS = 1_000_000_000
WINDOW = WINDOW_SECONDS * NANOSECONDS
"""Whole nanoseconds: sums of float seconds drift, and 60.0000001 s would be reported as 61."""
MAX_CALLERS = 10_000
"""Callers that are remembered; beyond that, the one that was away longest is forgotten and has its full limit again."""


@dataclass(frozen=True, slots=True)
class Quota:
    """The part of its limit that a caller has left.

    Attributes:
        allowed: whether this request is within the limit.
        remaining: further requests that are allowed now.
        full_seconds: whole seconds until the caller has its full limit again.
        wait_seconds: until the next request is allowed; 0 if one is allowed now.
    """

    allowed: bool
    remaining: int
    full_seconds: int
    wait_seconds: float


@dataclass(slots=True)
class Account:
    """When a caller has its full limit again, on the clock in nanoseconds."""

    full_at: int


class Accounts(Protocol):
    """Who remembers the callers."""

    def of(self, caller: str, now: int) -> AbstractContextManager[Account]:
        """The account of a caller, full by now if it is not known; nobody else changes it until the block ends."""


class LocalAccounts:
    """Accounts in this process, of the `MAX_CALLERS` that came last."""

    def __init__(self) -> None:
        self._full_at: OrderedDict[str, int] = OrderedDict()

    @contextmanager
    def of(self, caller: str, now: int) -> Iterator[Account]:
        """See `Accounts`."""
        account = Account(self._full_at.pop(caller, now))
        yield account
        self._full_at[caller] = account.full_at
        if len(self._full_at) > MAX_CALLERS:
            self._full_at.popitem(last=False)


class RateLimit:
    """Allows each caller a number of requests per minute; after a pause they may all come at once.

    Args:
        per_minute: at least 1.
        clock: returns seconds and never runs backwards; the same for all who share the accounts.
        accounts: of the callers; None: of this process.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float], accounts: Accounts | None = None) -> None:
        self.per_minute = per_minute
        self._clock = clock
        self._pause = WINDOW // per_minute
        self._accounts = accounts or LocalAccounts()

    def take(self, caller: str) -> Quota:
        """Count one request of a caller, unless its limit is used up."""
        return self._account(caller, self._pause)

    def look(self, caller: str) -> Quota:
        """What a caller has left, without counting a request."""
        return self._account(caller, 0)

    def _account(self, caller: str, price: int) -> Quota:
        now = round(self._clock() * NANOSECONDS)
        with self._accounts.of(caller, now) as account:
            full_at = max(account.full_at, now)
            allowed = full_at - now <= WINDOW - self._pause
            if allowed:
                full_at += price
            account.full_at = full_at
        used = full_at - now
        remaining = (WINDOW - used) // self._pause
        wait = 0 if remaining else used - (WINDOW - self._pause)
        return Quota(allowed, remaining, -(-used // NANOSECONDS), wait / NANOSECONDS)

"""Authentication and rate limits. Health routes, the web page and its samples need no key."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import Scope

from adafocus.service.errors import RateLimited, Unauthorized
from adafocus.service.http.callers import caller_at
from adafocus.service.http.context import context_of
from adafocus.service.http.head import head_of
from adafocus.service.http.keys import Keyring
from adafocus.service.http.rate_limit import WINDOW_SECONDS, Accounts, Quota, RateLimit
from adafocus.service.settings import Settings

WRONG_KEYS_PER_MINUTE = 30
"""Wrong keys from one address; beyond that it is not told whether a key is right."""


class AccessControl:
    """Checks the API key of a request and limits the requests of each key; without keys, of each client address.

    Args:
        settings: with the keys and the limit.
        clock: returns seconds.
        accounts: where callers are remembered; None: in this process.

    Raises:
        KeyFileError: the key file cannot be used.
    """

    def __init__(
        self, settings: Settings, clock: Callable[[], float] = time.monotonic, accounts: Accounts | None = None
    ) -> None:
        keys = [key.get_secret_value() for key in settings.api_keys]
        self._keyring = Keyring(keys, settings.api_keys_file, clock)
        self._wrong_keys = RateLimit(WRONG_KEYS_PER_MINUTE, clock)
        self._welcome: set[str] = set()  # at most as many as there are keys
        per_minute = settings.rate_limit_per_minute
        self._limit = RateLimit(per_minute, clock, accounts) if per_minute else None

    def address(self, scope: Scope) -> str:
        """Where a request comes from, whatever key it has."""
        return _address(scope)

    def authenticate(self, request: Request) -> str:
        """Check the API key of a request if keys are required; returns a name for the caller that does not reveal it.

        Raises:
            Unauthorized: no key or a wrong one was sent.
            RateLimited: many wrong ones were sent from there.
        """
        if self._keyring.open_to_all:
            return _address(request.scope)
        return self._check_key(request)

    def look(self, scope: Scope) -> str:
        """A name for whoever sent a request, if it may come in. Counts wrong keys, and no request against the limit.

        Raises:
            Unauthorized: a key is required, and no valid one was sent.
            RateLimited: the caller has sent more requests than the limit allows, or many wrong keys came from there.
        """
        caller = _address(scope) if self._keyring.open_to_all else self._holder(scope)
        if self._limit is not None:
            quota = self._limit.look(caller)
            if not quota.allowed:
                problem = self._used_up(quota)
                problem.headers |= self._headers(quota)
                raise problem
        return caller

    def _check_key(self, request: Request) -> str:
        holder = self._holder(request.scope)
        context_of(request.scope["state"]).fields["key"] = holder
        return holder

    def _holder(self, scope: Scope) -> str:
        """The holder of the key that was sent.

        An address that has sent many wrong keys is not told any more whether another key is right, for a while. Holders
        that have been here before come in: they may share the address with whoever guesses.
        """
        key = _key_in(scope)
        if key is None:  # that guesses nothing, and a client that does not know that it needs a key is to learn it
            raise Unauthorized
        holder = self._keyring.holder(key)
        if holder is None or holder not in self._welcome:
            address = _address(scope)
            quota = self._wrong_keys.look(address) if holder is not None else self._wrong_keys.take(address)
            if not quota.allowed:
                raise RateLimited("too many wrong API keys were sent from this address", retry_after=quota.wait_seconds)
        if holder is None:
            raise Unauthorized
        self._welcome.add(holder)
        return holder

    def admit(self, request: Request) -> str:
        """Authenticate a request and count it against the caller's rate limit; sets the response's RateLimit headers.

        Returns:
            The caller's name.

        Raises:
            Unauthorized: no key or a wrong one was sent.
            RateLimited: the caller has sent more requests than the limit allows.
        """
        caller = self.authenticate(request)
        if self._limit is None:
            return caller
        quota = self._limit.take(caller)
        context_of(request.scope["state"]).headers |= self._headers(quota)
        if not quota.allowed:
            raise self._used_up(quota)
        return caller

    def _headers(self, quota: Quota) -> dict[str, str]:
        most = 0 if self._limit is None else self._limit.per_minute
        return {
            "RateLimit-Policy": f'"default";q={most};w={WINDOW_SECONDS}',
            "RateLimit": f'"default";r={quota.remaining};t={quota.full_seconds}',
        }

    def _used_up(self, quota: Quota) -> RateLimited:
        most = 0 if self._limit is None else self._limit.per_minute
        detail = f"the limit of {most} requests per minute is used up"
        return RateLimited(detail, retry_after=quota.wait_seconds)


def _key_in(scope: Scope) -> str | None:
    """The API key that a request carries."""
    head = head_of(scope)
    scheme, _, token = head.get(b"authorization").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else head.get(b"x-api-key")


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return caller_at(client[0] if client else "")

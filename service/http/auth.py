"""Authentication and rate limits. Health routes, the web page and its samples need no key."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.requests import Request

from adafocus.service.errors import RateLimited, Unauthorized
from adafocus.service.http.context import context_of
from adafocus.service.http.keys import Keyring
from adafocus.service.http.rate_limit import WINDOW_SECONDS, RateLimit
from adafocus.service.settings import Settings


class AccessControl:
    """Checks the API key of a request and limits the requests of each key; without keys, of each client address.

    Args:
        settings: with the keys and the limit.
        clock: returns seconds.

    Raises:
        KeyFileError: the key file cannot be used.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        keys = [key.get_secret_value() for key in settings.api_keys]
        self._keyring = Keyring(keys, settings.api_keys_file, clock)
        self._limit = RateLimit(settings.rate_limit_per_minute, clock) if settings.rate_limit_per_minute else None

    def authenticate(self, request: Request) -> str:
        """Check the API key of a request if keys are required; returns a name for the caller that does not reveal it.

        Raises:
            Unauthorized: no key or a wrong one was sent.
        """
        if self._keyring.open_to_all:
            return request.client.host if request.client else ""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        holder = self._keyring.holder(token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key"))
        if holder is None:
            raise Unauthorized
        context_of(request.scope["state"]).fields["key"] = holder
        return holder

    def admit(self, request: Request) -> None:
        """Authenticate a request and count it against the caller's rate limit; sets the response's RateLimit headers.

        Raises:
            Unauthorized: no key or a wrong one was sent.
            RateLimited: the caller has sent more requests than the limit allows.
        """
        caller = self.authenticate(request)
        if self._limit is None:
            return
        quota = self._limit.take(caller)
        most = self._limit.per_minute
        context_of(request.scope["state"]).headers |= {
            "RateLimit-Policy": f'"default";q={most};w={WINDOW_SECONDS}',
            "RateLimit": f'"default";r={quota.remaining};t={quota.full_seconds}',
        }
        if not quota.allowed:
            detail = f"the limit of {most} requests per minute is used up"
            raise RateLimited(detail, retry_after=quota.wait_seconds)

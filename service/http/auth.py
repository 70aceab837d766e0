"""Who may come in, and how often. Health, the page and its samples stand before the door."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.requests import Request

from service.errors import RateLimited, Unauthorized
from service.http.context import context_of
from service.http.keys import Keyring
from service.http.rate_limit import WINDOW_SECONDS, RateLimit
from service.settings import Settings


class AccessControl:
    """Checks the key of a request, and counts the requests of each key; without keys, of each address.

    Args:
        settings: name the keys and the limit.
        clock: seconds.

    Raises:
        KeyFileError: the file of keys cannot be used.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        keys = [key.get_secret_value() for key in settings.api_keys]
        self._keyring = Keyring(keys, settings.api_keys_file, clock)
        self._limit = RateLimit(settings.rate_limit_per_minute, clock) if settings.rate_limit_per_minute else None

    def check(self, request: Request) -> str:
        """Let in whoever has a key, if keys are asked for; returns a name for the caller.

        Raises:
            Unauthorized: none or a wrong one was sent.
        """
        if self._keyring.open_to_all:
            return request.client.host if request.client else ""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        holder = self._keyring.holder(token.strip() if scheme.lower() == "bearer" else request.headers.get("x-api-key"))
        if holder is None:
            raise Unauthorized
        context_of(request.scope["state"]).fields["key"] = holder
        return holder

    def enter(self, request: Request) -> None:
        """`check`, and count the request; its answer will say how many more may come.

        Raises:
            Unauthorized: none or a wrong key was sent.
            RateLimited: the caller has spent what a minute allows.
        """
        caller = self.check(request)
        if self._limit is None:
            return
        standing = self._limit.take(caller)
        most = self._limit.per_minute
        context_of(request.scope["state"]).headers |= {
            "RateLimit-Policy": f'"default";q={most};w={WINDOW_SECONDS}',
            "RateLimit": f'"default";r={standing.remaining};t={standing.full_seconds}',
        }
        if not standing.allowed:
            detail = f"{most} requests a minute are permitted to each caller"
            raise RateLimited(detail, retry_after=standing.wait_seconds)

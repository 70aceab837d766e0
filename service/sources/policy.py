"""Which URLs may be read: the scheme, the host and the port, before anything is resolved or dialled. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

from adafocus.service.errors import UrlNotAllowed

MAX_URL_LETTERS = 8192
_HOST = re.compile(r"[A-Za-z0-9_\-.]{1,253}|[0-9A-Fa-f:.]{2,45}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """What the settings permit.

    Attributes:
        hosts: patterns, as the setting ``url_hosts`` has them; empty: nothing is permitted.
        private: whether addresses that are not global may be dialled.
    """

    hosts: Sequence[str]
    private: bool = False

    def check(self, text: str | httpx.URL) -> httpx.URL:
        """Parse a URL and check its scheme, host and port. The addresses are checked when it is dialled.

        Raises:
            UrlNotAllowed: the URL is not permitted, or is none. The text never repeats the URL, which may hold secrets.
        """
        if not self.hosts:
            raise UrlNotAllowed("URLs are not enabled; the setting url_hosts lists the hosts that are permitted")
        try:
            if len(str(text)) > MAX_URL_LETTERS:
                raise UrlNotAllowed(f"a URL must have at most {MAX_URL_LETTERS} characters")
            url = httpx.URL(text)
        except (httpx.InvalidURL, TypeError, ValueError):
            raise UrlNotAllowed("this is not a valid URL") from None
        if url.scheme not in _DEFAULT_PORTS:
            raise UrlNotAllowed(f"the scheme of a URL must be http or https, got {url.scheme[:20]!r}")
        if not _HOST.fullmatch(url.raw_host.decode("ascii")):
            raise UrlNotAllowed("the URL has no valid host")
        if not any(_matches(pattern, url) for pattern in self.hosts):
            raise UrlNotAllowed(f"the host {url.host[:100]!r}, or its port, is not on the list of permitted hosts")
        return url


def _matches(pattern: str, url: httpx.URL) -> bool:
    host, port = url.raw_host.decode("ascii").lower().rstrip("."), url.port or _DEFAULT_PORTS[url.scheme]
    name, wanted_port = _split(pattern)
    if wanted_port is None:
        if port not in _DEFAULT_PORTS.values():
            return False
    elif wanted_port not in ("*", str(port)):
        return False
    if name == "*":
        return True
    if name.startswith("*."):
        return host.endswith(name[1:]) and len(host) > len(name) - 1
    return host == name


def _split(pattern: str) -> tuple[str, str | None]:
    """The name and the port of a pattern, without the brackets of an IPv6 address."""
    pattern = pattern.lower()
    if pattern.startswith("["):
        name, _, rest = pattern[1:].partition("]")
        return name, rest[1:] or None
    name, _, port = pattern.partition(":")
    return name.rstrip("."), port or None

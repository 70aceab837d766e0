"""Videos that are named by URL on the command line: http, https, s3 and gs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote_plus, urlsplit, urlunsplit

from adafocus.service.settings import Settings
from adafocus.service.sources.base import ByteSource
from adafocus.service.sources.http_source import HttpSource
from adafocus.service.sources.object_source import SCHEMES, ObjectSource, keys_under
from adafocus.service.sources.policy import UrlPolicy

ALL_SCHEMES = ("http", "https", *SCHEMES)

_SECRETS = ("sig", "token", "key", "secret", "credential", "auth", "password", "policy")


@dataclass(frozen=True)
class VideoUrl:
    """A URL of a video. Printed without user name, password and the values of parameters that may be secret."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        pairs = (pair.partition("=") for pair in parts.query.split("&"))
        query = "&".join(f"{name}{equals}{'…' if _is_secret(name) else value}" for name, equals, value in pairs)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, query, ""))

    @property
    def name(self) -> str:
        """The last part of the path."""
        return urlsplit(self.url).path.rstrip("/").rpartition("/")[2] or str(self)

    @property
    def is_folder(self) -> bool:
        """Whether it names a bucket, or the beginning of keys in one."""
        parts = urlsplit(self.url)
        return parts.scheme in SCHEMES and (parts.path in ("", "/") or parts.path.endswith("/"))

    def videos(self) -> Iterator[VideoUrl]:
        """The objects under a folder.

        Raises:
            Problem: the bucket cannot be listed.
        """
        return map(VideoUrl, keys_under(self.url))

    def source(self, settings: Settings) -> ByteSource:
        """What reads it. Whoever types a URL means its host: without the setting ``url_hosts``, any is permitted.

        Raises:
            UrlNotAllowed: the URL is not permitted.
        """
        if urlsplit(self.url).scheme in SCHEMES:
            return ObjectSource(self.url)
        policy = UrlPolicy(settings.url_hosts or ("*", "*:*"), settings.url_private)
        return HttpSource(self.url, policy, stall_seconds=settings.upload_timeout_seconds)


def is_video_url(text: str) -> bool:
    """Whether a text on the command line is a URL of a kind that is read."""
    return text.partition("://")[0].lower() in ALL_SCHEMES and "://" in text


def _is_secret(name: str) -> bool:
    return any(part in unquote_plus(name).lower() for part in _SECRETS)

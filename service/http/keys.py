"""The API keys that open the door: from the settings, and from a file that may be changed while the service runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from service.settings import check_key

LOOK_AGAIN_SECONDS = 1.0
MOST_BYTES = 1 << 20

logger = logging.getLogger("adafocus.keys")


class KeyFileError(ValueError):
    """A file of keys that cannot be used; the text says why, and holds no key."""


def read_keys(path: Path) -> tuple[str, ...]:
    """One key a line; blank lines and lines that begin with # do not count.

    Raises:
        KeyFileError: it cannot be read, or holds no key or one that cannot be sent.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MOST_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise KeyFileError(f"the file of API keys {path} cannot be read: {reason}") from error
    lines = [line.strip() for line in text.splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:  # an empty file must not open the door
        raise KeyFileError(f"the file of API keys {path} names no key")
    try:
        return tuple(check_key(key) for key in keys)
    except ValueError as error:
        raise KeyFileError(f"the file of API keys {path}: {error}") from error


class Keyring:
    """Knows the keys of the moment.

    The file is read again when it has changed. One that has become unusable changes nothing but the log, so that a
    slip in rotating keys locks nobody out.

    Args:
        keys: that always open.
        file: with further keys; None: no such file.
        clock: seconds.

    Raises:
        KeyFileError: the file cannot be used.
    """

    def __init__(self, keys: Sequence[str], file: Path | None, clock: Callable[[], float]) -> None:
        self._fixed = tuple(keys)
        self._file = file
        self._clock = clock
        self._looked = clock()
        self._stamp = _stamp(file)
        self._from_file = read_keys(file) if file else ()

    @property
    def open_to_all(self) -> bool:
        """Whether no key is asked for."""
        return not self._fixed and self._file is None

    def holder(self, presented: str | None) -> str | None:
        """A name for whoever holds that key, which does not betray it; None if it is no key.

        Compares in constant time, and with every key.
        """
        self._look_again()
        given = (presented or "").encode()
        found = [hmac.compare_digest(given, key.encode()) for key in (*self._fixed, *self._from_file)]
        return hashlib.sha256(given).hexdigest()[:12] if any(found) else None

    def _look_again(self) -> None:
        if self._file is None or self._clock() - self._looked < LOOK_AGAIN_SECONDS:
            return
        self._looked = self._clock()
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._from_file = read_keys(self._file)
        except KeyFileError as error:
            logger.error("the keys stay as they were: %s", error)
        else:
            logger.info("the keys were read again", extra={"fields": {"keys": len(self._from_file)}})


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """What changes when a file is written or replaced."""
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size

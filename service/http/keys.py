"""API keys from the settings, and from a file that may change while the service runs."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from adafocus.service.settings import check_key

CHECK_INTERVAL_SECONDS = 1.0
MAX_FILE_BYTES = 1 << 20

logger = logging.getLogger("adafocus.keys")


class KeyFileError(ValueError):
    """The key file cannot be used. The text says why and contains no key."""


def read_keys(path: Path) -> tuple[str, ...]:
    """Read a key file: one key per line; blank lines and lines that begin with # are ignored.

    Raises:
        KeyFileError: the file cannot be read, has no key, or has a key that cannot be sent in a header.
    """
    try:
        with path.open("rb") as stream:
            text = stream.read(MAX_FILE_BYTES).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not ASCII"
        raise KeyFileError(f"cannot read the key file {path}: {reason}") from error
    lines = [line.strip() for line in text.splitlines()]
    keys = tuple(line for line in lines if line and not line.startswith("#"))
    if not keys:  # an empty file must not disable the keys
        raise KeyFileError(f"the key file {path} has no key; it needs at least one")
    try:
        return tuple(check_key(key) for key in keys)
    except ValueError as error:
        raise KeyFileError(f"invalid key in the key file {path}: {error}") from error


class Keyring:
    """The API keys that are valid now.

    The file is read again when it has changed. If it cannot be used any more, the keys stay the same and a warning is
    logged, so a mistake while rotating keys does not lock clients out.

    Args:
        keys: keys that are always valid.
        file: a file with further keys; None for no file.
        clock: returns seconds.

    Raises:
        KeyFileError: the file cannot be used.
    """

    def __init__(self, keys: Sequence[str], file: Path | None, clock: Callable[[], float]) -> None:
        self._fixed = tuple(keys)
        self._file = file
        self._clock = clock
        self._checked = clock()
        self._stamp = _stamp(file)
        self._from_file = read_keys(file) if file else ()

    @property
    def open_to_all(self) -> bool:
        """True if no key is required."""
        return not self._fixed and self._file is None

    def holder(self, presented: str | None) -> str | None:
        """A name for the holder of a key, from which the key cannot be guessed; None if the key is not valid.

        Compares in constant time, and with every key.
        """
        self._reload_if_changed()
        given = (presented or "").encode()
        found = [hmac.compare_digest(given, key.encode()) for key in (*self._fixed, *self._from_file)]
        return hashlib.sha256(given).hexdigest()[:12] if any(found) else None

    def _reload_if_changed(self) -> None:
        if self._file is None or self._clock() - self._checked < CHECK_INTERVAL_SECONDS:
            return
        self._checked = self._clock()
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._from_file = read_keys(self._file)
        except KeyFileError as error:
            logger.error("the API keys stay as they are: %s", error)
        else:
            logger.info("the API keys have been reloaded", extra={"fields": {"keys": len(self._from_file)}})


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """A value that changes when the file is written or replaced."""
    if file is None:
        return None
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size

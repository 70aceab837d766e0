"""A JSON Lines file of answers that a run can be resumed from."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Self

import click


class JsonLinesFile:
    """One JSON object per line, each with a ``file``; opened for adding to it.

    A last line that was torn when a run was killed is cut off.

    Args:
        path: made if it is not there.

    Raises:
        click.ClickException: a line before the last is no such object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: set[str] = set()
        self._stream = path.open("a+b")
        try:
            self._stream.truncate(self._read(path))
        except BaseException:
            self._stream.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()

    def append(self, key: str, line: str) -> None:
        """Add a line, at once and whole."""
        self._stream.write(line.encode() + b"\n")
        self._stream.flush()
        self.keys.add(key)

    def _read(self, path: Path) -> int:
        """Learn the keys; returns the length of what is sound."""
        self._stream.seek(0)
        sound = 0
        for number, line in enumerate(self._stream, start=1):
            key = _key(line)
            if key is None and line.endswith(b"\n"):
                raise click.ClickException(
                    f"{path}: line {number} is no answer of this command; name another --out file"
                )
            if key is None or not line.endswith(b"\n"):
                break
            self.keys.add(key)
            sound += len(line)
        return sound


def _key(line: bytes) -> str | None:
    try:
        key = json.loads(line)["file"]
    except (ValueError, KeyError, TypeError):
        return None
    return key if isinstance(key, str) else None

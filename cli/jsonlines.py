"""A JSON Lines file of results that an interrupted run can continue."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import click


class JsonLinesFile:
    """A file with one JSON object per line, each with a ``file``; opened for appending.

    The file is created if it does not exist. A last line that is incomplete, because a run was killed, is cut off.

    Attributes:
        path: of the file.
        keys: every ``file`` that has a row.
        failed: those of them whose row is an ``error``.

    Raises:
        click.ClickException: a line before the last is not such an object.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.keys: set[str] = set()
        self.failed: set[str] = set()
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

    def append(self, row: dict[str, Any]) -> None:
        """Write a row as one line, without delay."""
        self._stream.write(json.dumps(row).encode() + b"\n")
        self._stream.flush()
        self._learn(row)

    def _learn(self, row: dict[str, Any]) -> None:
        self.keys.add(row["file"])
        if "error" in row:
            self.failed.add(row["file"])

    def _read(self, path: Path) -> int:
        """Read the rows; return the length of the complete lines in bytes."""
        self._stream.seek(0)
        complete = 0
        for number, line in enumerate(self._stream, start=1):
            row = _row(line)
            if row is None and line.endswith(b"\n"):
                raise click.ClickException(
                    f"{path}: line {number} is not a result of this command; choose another file with --out"
                )
            if row is None or not line.endswith(b"\n"):
                break
            self._learn(row)
            complete += len(line)
        return complete


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("file"), str) else None

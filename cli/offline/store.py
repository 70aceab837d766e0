"""A folder of results that holds exactly one row for each input, whenever its writer is killed.

Every row is first appended to a journal, a hidden file of JSON Lines. A full journal becomes a part: a file that
appears in the folder under its final name when it is complete. A run that follows reads the parts and the journal and
goes on in the journal; a last line that was cut off is dropped, and its video is classified again.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import click

from adafocus.cli.offline.formats import Format, JsonLines, Row, from_line, to_line
from adafocus.cli.offline.shards import Shard

DEFAULT_ROWS_PER_PART = 10_000


class ResultStore:
    """The results of one shard, opened by one process at a time.

    Args:
        folder: is created if it does not exist; other shards may write to it at the same time.
        shard: of this run.
        form: the format of the parts.
        rows_per_part: rows after which a part is complete.
        seen: called with each row that is there already, and then with each that is appended.
        drop: rows that are there already and are to be removed, so that their inputs are classified again.

    Attributes:
        names: every ``file`` that has a row.

    Raises:
        click.ClickException: another process has opened it, or a part is not a file of results.
    """

    def __init__(
        self,
        folder: Path,
        shard: Shard,
        form: Format,
        *,
        rows_per_part: int,
        seen: Callable[[Row], None],
        drop: Callable[[Row], bool] = lambda row: False,
    ) -> None:
        self.names: set[str] = set()
        self._folder = folder
        self._suffix = shard.suffix
        self._form = form
        self._rows_per_part = rows_per_part
        self._seen = seen
        self._drop = drop
        folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as opened:
            opened.enter_context(_lock(folder / f".lock{self._suffix}"))
            self._number = -1
            self._read_parts()
            self._number += 1
            self._open_journal()
            opened.callback(lambda: self._journal.close())
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Leave the journal of an interrupted run to the next one; make a part of the journal of a complete run."""
        with self._opened:
            if error is None:
                self._finish_part()

    def append(self, row: Row) -> None:
        """Add the row of an input that has none yet. When this returns, the end of the process cannot lose it."""
        self._journal.write(to_line(row))
        self._journal.flush()
        self._journal_rows.append(row)
        self._learn(row)
        if len(self._journal_rows) >= self._rows_per_part:
            self._finish_part()
            self._open_journal()

    @property
    def parts(self) -> list[Path]:
        """The complete files, in the order in which they were written."""
        return [path for _, path in self._parts()]

    def _parts(self) -> list[tuple[int, Path]]:
        return _numbered(self._folder, f"results{self._suffix}-", self._form.ending)

    def _hidden(self, ending: str) -> Path:
        return self._folder / f".results{self._suffix}-{self._number:05d}{ending}"

    def _learn(self, row: Row) -> None:
        self.names.add(row["file"])
        self._seen(row)

    def _read_parts(self) -> None:
        for number, path in self._parts():
            self._number = number
            try:
                rows = list(self._form.read(path))
            except ValueError as error:
                raise click.ClickException(
                    f"{path} is not a file of results ({error}); remove it, or choose another folder with --out"
                ) from error
            kept = [row for row in rows if not self._drop(row)]
            if not kept:
                path.unlink()
            elif len(kept) < len(rows):
                self._form.write(self._hidden(".new"), kept)
                _replace_durably(self._hidden(".new"), path)
            for row in kept:
                self._learn(row)

    def _open_journal(self) -> None:
        """Open the journal of the next part, learn its rows, and remove what a killed run left of earlier parts."""
        for number, path in _numbered(self._folder, f".results{self._suffix}-", ".journal"):
            if number < self._number:  # its part was complete before the run was killed
                path.unlink()
        for _, path in _numbered(self._folder, f".results{self._suffix}-", ".new"):
            path.unlink()
        path = self._hidden(".journal")
        rows = list(_complete_rows(path))
        self._journal_rows = [row for row in rows if not self._drop(row)]
        JsonLines().write(self._hidden(".new"), self._journal_rows)
        self._hidden(".new").replace(path)
        self._journal = path.open("ab")
        for row in self._journal_rows:
            self._learn(row)

    def _finish_part(self) -> None:
        """Make a part of the rows of the journal, if it has any, and remove the journal."""
        if self._journal_rows:
            self._form.write(self._hidden(".new"), self._journal_rows)
            name = f"results{self._suffix}-{self._number:05d}{self._form.ending}"
            _replace_durably(self._hidden(".new"), self._folder / name)
        self._journal.close()
        self._hidden(".journal").unlink()
        self._number += 1


def _complete_rows(journal: Path) -> Iterator[Row]:
    """Yield the rows of a journal up to the first that is incomplete."""
    if journal.exists():
        with journal.open("rb") as stream:
            for line in stream:
                try:
                    yield from_line(line)
                except ValueError:
                    return


def _numbered(folder: Path, before: str, after: str) -> list[tuple[int, Path]]:
    """The files of a folder whose names have nothing but a number between two texts, by that number."""
    wanted = re.compile(re.escape(before) + r"([0-9]{5,})" + re.escape(after))
    found = ((wanted.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in found if match)


def _replace_durably(new: Path, final: Path) -> None:
    """Give a complete file its final name, so that it is there in whole or not at all even after a loss of power."""
    with new.open("rb") as stream:
        os.fsync(stream.fileno())
    new.replace(final)
    folder = os.open(final.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process at the latest.

    Raises:
        click.ClickException: another process holds it.
    """
    with path.open("wb") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise click.ClickException(
                f"another run writes to {path.parent}; wait for it, or choose another folder with --out"
            ) from error
        yield

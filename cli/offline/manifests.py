"""Reads the names of videos from a manifest: CSV with a header, JSON Lines, or Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import click

DEFAULT_COLUMN = "file"


def is_manifest(path: Path) -> bool:
    """Tell from its ending whether a file is a manifest."""
    return path.suffix.lower() in _READERS


def read_names(manifest: Path, column: str) -> Iterator[str]:
    """Yield the name in one column of each row.

    Args:
        manifest: ends in ``.csv``, ``.jsonl``, ``.ndjson`` or ``.parquet``.
        column: of the names. A line of JSON Lines may also be a name alone.

    Raises:
        click.ClickException: the manifest cannot be read, has no such column, or a row has no name.
    """
    try:
        for row, name in _READERS[manifest.suffix.lower()](manifest, column):
            if not isinstance(name, str) or not name.strip():
                raise click.ClickException(f"{manifest}: {row} has no name in the column {column!r}")
            yield name
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise click.ClickException(f"{manifest} cannot be read: {reason}") from error


def _csv(manifest: Path, column: str) -> Iterator[tuple[str, object]]:
    with manifest.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if column not in (reader.fieldnames or ()):
            raise _no_column(manifest, column, list(reader.fieldnames or ()))
        for row in reader:
            yield f"line {reader.line_num}", row[column]


def _json_lines(manifest: Path, column: str) -> Iterator[tuple[str, object]]:
    with manifest.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if line.isspace():
                continue
            try:
                item = json.loads(line)
            except ValueError as error:
                raise click.ClickException(f"{manifest}: line {number} is not JSON") from error
            if isinstance(item, dict) and column not in item:
                raise _no_column(manifest, column, list(item), f"line {number} of ")
            yield f"line {number}", item[column] if isinstance(item, dict) else item


def _parquet(manifest: Path, column: str) -> Iterator[tuple[str, object]]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(manifest) as file:
            if column not in file.schema_arrow.names:
                raise _no_column(manifest, column, file.schema_arrow.names)
            number = 0
            for batch in file.iter_batches(columns=[column]):
                for name in batch.column(0).to_pylist():
                    number += 1
                    yield f"row {number}", name
    except pyarrow.ArrowException as error:
        raise click.ClickException(f"{manifest} is not a Parquet file: {error}") from error


def _no_column(manifest: Path, column: str, columns: list[str], where: str = "") -> click.ClickException:
    return click.ClickException(
        f"{where}{manifest} has no column {column!r}; it has {', '.join(columns) or 'none'}. Choose one with --column"
    )


_READERS: dict[str, Callable[[Path, str], Iterator[tuple[str, object]]]] = {
    ".csv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}

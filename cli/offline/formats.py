"""The formats of result files: JSON Lines and Parquet, with the same rows."""

from __future__ import annotations

import json
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, Union, get_args, get_origin

from pydantic import BaseModel

from adafocus.service.schemas.classify import Classification

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
"""``file`` and the answer of ``POST /classify``, or ``file`` and ``error`` with ``code`` and ``detail``."""

FormatName = Literal["jsonl", "parquet"]


class Format(Protocol):
    """Reads and writes whole files of rows."""

    ending: str

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """Write a new file."""

    def read(self, path: Path) -> Iterator[Row]:
        """Yield the rows of a file.

        Raises:
            ValueError: it is not such a file.
        """


class JsonLines:
    """A JSON object on each line."""

    ending = ".jsonl"

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """Write a new file."""
        with path.open("wb") as stream:
            stream.writelines(to_line(row) for row in rows)

    def read(self, path: Path) -> Iterator[Row]:
        """Yield the rows of a file.

        Raises:
            ValueError: it is not such a file.
        """
        with path.open("rb") as stream:
            for line in stream:
                yield from_line(line)


class Parquet:
    """A table whose nested columns have the names that the fields of the JSON have."""

    ending = ".parquet"

    def __init__(self) -> None:
        import pyarrow

        self._schema = arrow_schema(pyarrow)

    def write(self, path: Path, rows: Iterable[Row]) -> None:
        """Write a new file."""
        import pyarrow
        from pyarrow import parquet

        parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=self._schema), path, compression="zstd")

    def read(self, path: Path) -> Iterator[Row]:
        """Yield the rows of a file, without the columns that a row does not use.

        Raises:
            ValueError: it is not such a file.
        """
        from pyarrow import parquet

        with parquet.ParquetFile(path) as file:
            if "file" not in file.schema_arrow.names:
                raise ValueError("it has no column 'file'")
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    yield {name: value for name, value in row.items() if value is not None}


def open_format(name: FormatName) -> Format:
    """Return the format of a name.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
    """
    return Parquet() if name == "parquet" else JsonLines()


def to_line(row: Row) -> bytes:
    """A row as a line of JSON Lines."""
    return json.dumps(row).encode() + b"\n"


def from_line(line: bytes) -> Row:
    """The row of a complete line.

    Raises:
        ValueError: the line is cut off, or is no row.
    """
    row = json.loads(line) if line.endswith(b"\n") else None
    if not isinstance(row, dict) or not isinstance(row.get("file"), str):
        raise ValueError("a line is not a result of this command")
    return row


def arrow_schema(pa: Any) -> pyarrow.Schema:
    """The columns of a row, derived from the schema of the answer so that a new field becomes a column by itself.

    Args:
        pa: the module pyarrow.
    """
    error = pa.struct([("code", pa.string()), ("detail", pa.string())])
    answer = [(name, _arrow_type(pa, field.annotation)) for name, field in Classification.model_fields.items()]
    return pa.schema([pa.field("file", pa.string(), nullable=False), ("error", error), *answer])


def _arrow_type(pa: Any, kind: Any) -> Any:
    """The type of a column for an annotation of pydantic."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        (kind,) = (each for each in arguments if each is not type(None))
        return _arrow_type(pa, kind)
    if origin in (list, tuple):
        return pa.list_(_arrow_type(pa, arguments[0]))
    if origin is Literal:
        return pa.string()
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields.items()
        return pa.struct([(name, _arrow_type(pa, field.annotation)) for name, field in fields])
    return {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}[kind]

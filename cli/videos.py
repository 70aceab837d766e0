"""Which files are meant by what was named on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import click

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts"}
    | {".mpg", ".mpeg", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".ogg", ".gif"}
)
"""Which files of a folder are taken for videos. A file that is named itself is always tried."""


def videos_at(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the videos in the folders named, each once; those of a folder sorted.

    Raises:
        click.ClickException: there is none.
    """
    files = list(dict.fromkeys(_files(paths)))
    if not files:
        raise click.ClickException("no videos there; of a folder, files are taken that end as video files do")
    return files


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            yield from sorted(inside)
        else:
            yield path

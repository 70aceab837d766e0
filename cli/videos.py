"""Which files are meant by what was named on the command line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import click

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts"}
    | {".mpg", ".mpeg", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".ogg", ".gif"}
)
"""Which files of a folder are taken for videos. A file that is named itself is always tried."""


class VideoPath(click.Path):
    """A file or folder on the command line, but nothing that only looks like one."""

    name = "video"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """The path.

        Raises:
            click.BadParameter: it is empty (all of the working folder would be meant), an address, or ``-``.
        """
        given = os.fspath(value)
        if not given:
            self.fail("a name is empty; '.' means this folder", param, ctx)
        if "://" in given:
            self.fail(f"{given} is an address; fetch it first, and name the file", param, ctx)
        if given == "-":
            self.fail("a pipe is named /dev/stdin, and a file of this name ./-", param, ctx)
        return super().convert(value, param, ctx)


def videos_at(paths: Iterable[Path]) -> list[Path]:
    """The files named, and the videos in the folders named, each once; those of a folder sorted.

    Raises:
        click.ClickException: there is none.
    """
    named = list(paths)
    files = list(dict.fromkeys(_files(named)))
    if not files:
        where = ", ".join(click.format_filename(path) for path in named)
        raise click.ClickException(f"no videos in {where}; of a folder, files are taken that end as videos do")
    return files


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            inside = (file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            yield from sorted(inside)
        else:
            yield path

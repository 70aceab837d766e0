"""Finds the videos that the command line names: files, and the videos in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from adafocus.video.folders import FolderListing

SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".m2ts", ".mts"}
    | {".mpg", ".mpeg", ".vob", ".flv", ".wmv", ".asf", ".ogv", ".ogg", ".gif"}
)
"""Endings by which the files of a folder are taken for videos. A file that is named itself is always tried."""

_MOST_LINES = 20
"""A folder may hold thousands of broken links; more lines than this are not printed."""


class VideoPath(click.Path):
    """The path of a file or folder on the command line; refuses what only looks like one."""

    name = "video"

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        """Return the path.

        Raises:
            click.BadParameter: the path is empty (it would mean the whole working folder), a URL, or ``-``.
        """
        given = os.fspath(value)
        if not given:
            self.fail("a path is empty; use '.' for the current folder", param, ctx)
        if "://" in given:
            self.fail(f"{given} is a URL; download the file and give its path", param, ctx)
        if given == "-":
            self.fail("'-' is not a file; use /dev/stdin for a pipe, or ./- for a file of this name", param, ctx)
        return super().convert(value, param, ctx)


@dataclass(frozen=True)
class FoundVideos:
    """The videos that the command line names.

    Attributes:
        files: each once; those of a folder sorted.
        unreadable: how many folders and links could not be read.
    """

    files: list[Path]
    unreadable: int


def find_videos(paths: Iterable[Path]) -> FoundVideos:
    """Find the files named and the videos in the folders named, and print what was left out of the folders.

    Hidden files and folders are left out silently, and links are followed, as `video.folders` says.

    Raises:
        click.ClickException: there is no video.
    """
    named = list(paths)
    listing = FolderListing()
    files: list[Path] = []
    for path in named:
        files += listing.add(path, _is_video) if path.is_dir() else [path]
    print_left_out([str(entry) for entry in listing.left_out])
    if not files:
        where = ", ".join(click.format_filename(path) for path in named)
        endings = ", ".join(sorted(SUFFIXES))
        raise click.ClickException(f"no videos in {where}; in a folder, videos are files that end in {endings}")
    return FoundVideos(list(dict.fromkeys(files)), sum(entry.is_error for entry in listing.left_out))


def print_left_out(lines: Sequence[str]) -> None:
    """Print to standard error what was left out of a folder, a line each."""
    for line in lines[:_MOST_LINES]:
        click.echo(f"left out: {line}", err=True)
    if len(lines) > _MOST_LINES:
        click.echo(f"left out: {len(lines) - _MOST_LINES} more", err=True)


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES

"""Finds the videos that the command line names: files, and the videos in folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import click

from adafocus.cli.video_urls import ALL_SCHEMES, VideoUrl, is_video_url
from adafocus.service.errors import Problem
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
            self.fail(f"{VideoUrl(given)} is a URL; download the file and give its path", param, ctx)
        if given == "-":
            self.fail("'-' is not a file; use /dev/stdin for a pipe, or ./- for a file of this name", param, ctx)
        return super().convert(value, param, ctx)


class VideoPathOrUrl(VideoPath):
    """The path of a file or folder, or a URL of a video or of a folder in a bucket."""

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, or the `VideoUrl`.

        Raises:
            click.BadParameter: as `VideoPath.convert`; or the URL is of a kind that is not read.
        """
        given = os.fspath(value)
        if is_video_url(given):
            return VideoUrl(given)
        if "://" in given:
            kinds = ", ".join(f"{scheme}://" for scheme in ALL_SCHEMES)
            self.fail(f"a URL must begin with {kinds}; got {given.partition('://')[0]!r}", param, ctx)
        return super().convert(value, param, ctx)


Found = TypeVar("Found", Path, Path | VideoUrl)


@dataclass(frozen=True)
class FoundVideos(Generic[Found]):
    """The videos that the command line names.

    Attributes:
        files: each once; those of a folder sorted.
        unreadable: how many folders and links could not be read.
    """

    files: list[Found]
    unreadable: int


def find_videos(paths: Iterable[Path]) -> FoundVideos[Path]:
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


def find_videos_anywhere(named: Iterable[Path | VideoUrl]) -> FoundVideos[Path | VideoUrl]:
    """As `find_videos`, with the URLs named and the videos in the buckets named after the files.

    Raises:
        click.ClickException: there is no video, or a bucket cannot be listed.
    """
    given = list(named)
    urls = [video for item in given if isinstance(item, VideoUrl) for video in _at_url(item)]
    paths = [item for item in given if not isinstance(item, VideoUrl)]
    local = find_videos(paths) if paths or not urls else FoundVideos[Path]([], 0)
    return FoundVideos([*local.files, *dict.fromkeys(urls)], local.unreadable)


def _at_url(url: VideoUrl) -> list[VideoUrl]:
    if not url.is_folder:
        return [url]
    try:
        found = sorted((video for video in url.videos() if _is_video(Path(video.name))), key=str)
    except Problem as problem:
        raise click.ClickException(f"{url}: {problem.detail}") from problem
    if not found:
        raise click.ClickException(
            f"no videos under {url}; videos are objects that end in {', '.join(sorted(SUFFIXES))}"
        )
    return found


def shown(video: Path | VideoUrl) -> str:
    """A video as it is printed."""
    return str(video) if isinstance(video, VideoUrl) else click.format_filename(video)


def print_left_out(lines: Sequence[str]) -> None:
    """Print to standard error what was left out of a folder, a line each."""
    for line in lines[:_MOST_LINES]:
        click.echo(f"left out: {line}", err=True)
    if len(lines) > _MOST_LINES:
        click.echo(f"left out: {len(lines) - _MOST_LINES} more", err=True)


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES

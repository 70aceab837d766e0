"""Collects the videos of a run from files, folders, URLs, buckets and manifests: each name once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from adafocus.cli.in_process import Named, VideoInput
from adafocus.cli.offline.manifests import is_manifest, read_names
from adafocus.cli.video_urls import VideoUrl, is_video_url
from adafocus.cli.videos import find_videos_anywhere
from adafocus.video import folders


@dataclass(frozen=True)
class Inputs:
    """The videos of a run.

    Attributes:
        videos: each name once, in the order in which it was found.
        repeated: how many further times names occurred.
        unreadable: how many folders and links could not be read, so that inputs may be missing.
    """

    videos: list[VideoInput]
    repeated: int
    unreadable: int


def collect(named: Iterable[Named], column: str) -> Inputs:
    """Return the videos that files, folders, URLs, buckets and manifests name, and print what was left out of folders.

    A file or a video in a folder is called by its path as it was given, and a video of a manifest as the manifest
    calls it. Relative names in a manifest are looked for beside the manifest. A URL is called by itself, without its
    secrets.

    Raises:
        click.ClickException: there is no video, a manifest cannot be read, or one name stands for two files.
    """
    files: list[Named] = []
    manifests: list[Path] = []
    for item in named:
        if isinstance(item, Path) and is_manifest(item) and not item.is_dir():
            manifests.append(item)
        else:
            files.append(item)
    unreadable = 0
    found: list[VideoInput] = []
    if files:
        listed = find_videos_anywhere(files)
        found = [VideoInput(_name(video), video) for video in listed.files]
        unreadable = listed.unreadable
    for manifest in manifests:
        found += _of_manifest(manifest, column)
    by_name: dict[str, VideoInput] = {}
    for video in found:
        other = by_name.setdefault(video.name, video)
        if other.path != video.path:
            raise click.ClickException(
                f"the name {video.name} stands for two files, {_name(other.path)} and {_name(video.path)}; "
                "give them different names"
            )
    if not by_name:
        raise click.ClickException(f"no videos in {', '.join(map(str, manifests))}")
    return Inputs(list(by_name.values()), len(found) - len(by_name), unreadable)


def _of_manifest(manifest: Path, column: str) -> Iterator[VideoInput]:
    for name in read_names(manifest, column):
        if is_video_url(name):
            url = VideoUrl(name)
            yield VideoInput(str(url), url)
        elif "://" in name:
            raise click.ClickException(f"{manifest}: {name} is a URL of a kind that is not read")
        else:
            yield VideoInput(name, manifest.parent / name)


def _name(video: Named) -> str:
    return str(video) if isinstance(video, VideoUrl) else folders.shown(video)

"""Collects the videos of a run from files, folders and manifests: each name once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from adafocus.cli.in_process import VideoInput
from adafocus.cli.offline.manifests import is_manifest, read_names
from adafocus.cli.videos import find_videos
from adafocus.video.folders import shown


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


def collect(paths: Iterable[Path], column: str) -> Inputs:
    """Return the videos that files, folders and manifests name, and print what was left out of folders.

    A file or a video in a folder is called by its path as it was given, and a video of a manifest as the manifest
    calls it. Relative names in a manifest are looked for beside the manifest.

    Raises:
        click.ClickException: there is no video, a manifest cannot be read, or one name stands for two files.
    """
    files: list[Path] = []
    manifests: list[Path] = []
    for path in paths:
        (manifests if is_manifest(path) and not path.is_dir() else files).append(path)
    unreadable = 0
    found: list[VideoInput] = []
    if files:
        listed = find_videos(files)
        found = [VideoInput(shown(path), path) for path in listed.files]
        unreadable = listed.unreadable
    for manifest in manifests:
        found += _of_manifest(manifest, column)
    by_name: dict[str, VideoInput] = {}
    for video in found:
        other = by_name.setdefault(video.name, video)
        if other.path != video.path:
            raise click.ClickException(
                f"the name {video.name} stands for two files, {shown(other.path)} and {shown(video.path)}; "
                "give them different names"
            )
    if not by_name:
        raise click.ClickException(f"no videos in {', '.join(map(str, manifests))}")
    return Inputs(list(by_name.values()), len(found) - len(by_name), unreadable)


def _of_manifest(manifest: Path, column: str) -> Iterator[VideoInput]:
    for name in read_names(manifest, column):
        if "://" in name:
            raise click.ClickException(f"{manifest}: {name} is a URL; download the file and give its path")
        yield VideoInput(name, manifest.parent / name)

"""A picture of how videos were classified: the frames looked at, the patch on each, how sure, and where it stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

from bundle.manifest import Manifest
from service.progress import StepReport
from service.schemas.classify import Classification

MOST_VIDEOS = 64
"""Beyond this the picture would be too tall for those who show pictures."""

_FORMATS = (".png", ".jpg", ".webp")


@dataclass(frozen=True, slots=True)
class Looked:
    """One video, and what was seen of it.

    Attributes:
        name: as the sheet shows it.
        answer: in the end.
        reports: one per step.
    """

    name: str
    answer: Classification
    reports: Sequence[StepReport]


class ContactSheet:
    """A sheet in the making."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._videos: list[Looked] = []

    @classmethod
    def at(cls, path: Path, manifest: Manifest, files: int) -> ContactSheet:
        """A sheet to be written to a file, for so many videos.

        Raises:
            click.ClickException: it could not be drawn; better said before the work than after.
        """
        if find_spec("PIL") is None:
            raise click.ClickException("--draw needs the package 'pillow'; pip install 'adafocus[draw]' brings it")
        if path.suffix.lower() not in _FORMATS:
            raise click.UsageError(f"--draw takes a file that ends in one of {', '.join(_FORMATS)}; got {path.name}")
        if files > MOST_VIDEOS:
            raise click.UsageError(f"--draw takes at most {MOST_VIDEOS} videos; these are {files}")
        if not path.parent.is_dir():
            raise click.ClickException(f"--draw: there is no folder {path.parent}")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise click.ClickException(f"--draw: {path} cannot be written; name a file in a folder of yours")
        return cls(path, manifest)

    def add(self, video: Looked) -> None:
        """Add one video, below those before it."""
        self._videos.append(video)

    def write(self) -> None:
        """Draw what was added, if anything was.

        Raises:
            OSError: the file cannot be written.
        """
        from cli.drawing import write_sheet  # what nobody asked to draw needs no Pillow

        if self._videos:
            write_sheet(self._path, self._manifest, self._videos)

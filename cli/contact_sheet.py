"""The contact sheet: a picture of the frames used, with patch and confidence, and of where the model stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import click

from adafocus.bundle.manifest import Manifest
from adafocus.service.progress import StepReport
from adafocus.service.schemas.classify import Classification

MOST_VIDEOS = 64
"""Image viewers do not show a taller picture."""

_FORMATS = (".png", ".jpg", ".webp")


@dataclass(frozen=True, slots=True)
class Looked:
    """A classified video with its steps.

    Attributes:
        name: the name under which the sheet shows it.
        answer: the final answer.
        reports: one per step.
    """

    name: str
    answer: Classification
    reports: Sequence[StepReport]


class ContactSheet:
    """Collects videos and draws them into one file."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._videos: list[Looked] = []

    @classmethod
    def at(cls, path: Path, manifest: Manifest, files: int) -> ContactSheet:
        """Return a sheet for a number of videos, to be written to a file.

        Raises:
            click.ClickException: the sheet could not be drawn later. This is checked before the work, not after it.
        """
        if find_spec("PIL") is None:
            raise click.ClickException(
                "--draw needs the package 'pillow'; install it with: pip install 'adafocus[draw]'"
            )
        if path.suffix.lower() not in _FORMATS:
            raise click.UsageError(f"--draw must be a file that ends in {', '.join(_FORMATS)}, got {path.name}")
        if files > MOST_VIDEOS:
            raise click.UsageError(f"--draw can show at most {MOST_VIDEOS} videos, got {files}")
        if not path.parent.is_dir():
            raise click.ClickException(f"--draw: the folder {path.parent} does not exist")
        if path.is_dir() or not os.access(path.parent, os.W_OK):
            raise click.ClickException(
                f"--draw: {path} cannot be written; choose a file in a folder that you can write to"
            )
        return cls(path, manifest)

    def add(self, video: Looked) -> None:
        """Add a video below the previous ones."""
        self._videos.append(video)

    def write(self) -> None:
        """Draw the videos that were added; without any, write nothing.

        Raises:
            OSError: the file cannot be written.
        """
        from adafocus.cli.drawing import write_sheet  # Pillow is needed only for --draw

        if self._videos:
            write_sheet(self._path, self._manifest, self._videos)

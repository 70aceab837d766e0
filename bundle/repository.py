"""A folder of bundles: which there are, and which of them have changed. It is only read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from adafocus.bundle.store import MANIFEST, BundleError

MAX_BUNDLES = 64
"""Bundles in one folder at most."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""A name that a folder must have for its bundle to be found; what begins with a dot is being written."""

Fingerprint = tuple[tuple[str, int, int, int], ...]
"""Name, size, time of change and inode of each file of a bundle: differs once the bundle has been replaced."""


def find_bundles(folder: Path) -> dict[str, Path]:
    """Return the bundles in a folder: the name of each one's own folder, and its path, sorted by name.

    Raises:
        BundleError: the folder cannot be read, holds none, or more than `MAX_BUNDLES`.
    """
    try:
        found = sorted(entry for entry in folder.iterdir() if (entry / MANIFEST).is_file())
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise BundleError(f"{folder}: cannot be read ({reason}); it must be a folder of bundles") from error
    named = {entry.name: entry for entry in found if NAME.fullmatch(entry.name)}
    if not named:
        raise BundleError(f"{folder}: holds no bundle; a bundle is a folder with a {MANIFEST}")
    if len(named) > MAX_BUNDLES:
        raise BundleError(f"{folder}: holds {len(named)} bundles; at most {MAX_BUNDLES} are served together")
    return named


def fingerprint(folder: Path) -> Fingerprint:
    """Return what tells one version of a bundle from the next without reading its files; empty if it is gone."""
    try:
        files = [(entry.name, entry.stat()) for entry in folder.iterdir() if entry.is_file()]
    except OSError:
        return ()
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns, stat.st_ino) for name, stat in files))


@dataclass(slots=True)
class ChangeDetector:
    """Says which bundles have changed and are no longer being written: they look the same twice in a row. Pure.

    Attributes:
        known: the fingerprint of each bundle when it was last read; `changed` updates it.
    """

    known: dict[str, Fingerprint]
    _before: dict[str, Fingerprint] = field(default_factory=dict, init=False)

    def changed(self, seen: Mapping[str, Fingerprint]) -> list[str]:
        """Take in what the folder holds now; returns the bundles to be read. A bundle that is gone is none."""
        settled = [
            name
            for name, look in seen.items()
            if look and look == self._before.get(name) and look != self.known.get(name)
        ]
        self._before = dict(seen)
        self.known |= {name: seen[name] for name in settled}
        return settled

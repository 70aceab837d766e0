"""Which labelled clips there are, and how they are parted: listing and splitting, no decoding.

Two layouts are read: a folder per class with videos in it, and a folder with a ``manifest.json`` whose ``items`` name
``file``, ``label``, ``split`` and, if known, ``sha256``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from training.errors import DataError

MANIFEST = "manifest.json"
_NOT_VIDEOS = frozenset({".json", ".txt", ".csv", ".md", ".html", ".xml", ".ini", ".db", ".zip", ".py"})


@dataclass(frozen=True)
class Clip:
    """One labelled video.

    Attributes:
        path: of the file.
        label: class index.
        identity: sha256 of the file: byte-identical clips are one clip when clips are parted.
    """

    path: Path
    label: int
    identity: str


@dataclass(frozen=True)
class ClipSet:
    """Labelled clips and the names of their classes.

    Attributes:
        labels: class names, sorted; a clip's ``label`` counts them.
        clips: in the order of their paths.
        source: what the data set says of itself (``name``, ``source``, ``licence``), for the checkpoint.
    """

    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    source: Mapping[str, str]

    def counts(self) -> tuple[int, ...]:
        """Clips per class."""
        seen = Counter(clip.label for clip in self.clips)
        return tuple(seen[index] for index in range(len(self.labels)))

    def only(self, clips: Iterable[Clip]) -> ClipSet:
        """The same classes with other clips."""
        return replace(self, clips=tuple(clips))


def list_clips(folder: Path, split: str | None = None) -> ClipSet:
    """The labelled clips of a folder.

    Args:
        folder: class folders of videos, or a folder with a manifest.
        split: keep only the clips of this split; a folder without a manifest has the splits that its sub-folders name
            (``folder/train/<class>``), or none.

    Raises:
        DataError: no such folder, no clips, an unknown split, or fewer than two classes.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder; give one with a folder of videos per class, or with a {MANIFEST}")
    manifest = folder / MANIFEST
    found = _from_manifest(manifest, split) if manifest.is_file() else _from_folders(folder, split)
    if len(found.labels) < 2:
        raise DataError(f"{folder} has {len(found.labels)} class(es); at least two are needed to learn from")
    if not found.clips:
        raise DataError(f"{folder} has no clips in split {split!r}")
    return found


def _from_manifest(path: Path, split: str | None) -> ClipSet:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        items = [dict(item) for item in content["items"]]
        rows = [(str(item["file"]), str(item["label"]), item.get("split"), item.get("sha256")) for item in items]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is no manifest: its 'items' must each name a file and a label ({error!r})") from error
    splits = sorted({str(row[2]) for row in rows if row[2] is not None})
    if split is not None and split not in splits:
        raise DataError(f"{path} has no split {split!r}; it has {', '.join(splits) or 'none'}")
    labels = tuple(sorted({row[1] for row in rows}))
    clips = []
    for file, label, own_split, sha256 in sorted(rows):
        if split is None or own_split == split:
            full = path.parent / file
            clips.append(Clip(full, labels.index(label), str(sha256) if sha256 else _digest(full)))
    return ClipSet(labels, tuple(clips), _source(content))


def _source(content: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(content[key]) for key in ("name", "source", "licence") if content.get(key)}


def _from_folders(folder: Path, split: str | None) -> ClipSet:
    root = folder / split if split is not None else folder
    if not root.is_dir():
        raise DataError(f"{folder} has neither a {MANIFEST} nor a folder {split!r}, so it has no such split")
    classes = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    clips = [
        Clip(file, index, _digest(file))
        for index, entry in enumerate(classes)
        for file in sorted(entry.rglob("*"))
        if file.is_file() and not file.name.startswith(".") and file.suffix.lower() not in _NOT_VIDEOS
    ]
    return ClipSet(tuple(entry.name for entry in classes), tuple(clips), {"name": folder.name})


def _digest(path: Path) -> str:
    """sha256 of a file; of its path if it cannot be read, which decoding will then report."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return hashlib.sha256(str(path).encode()).hexdigest()


def fold_of(clips: Sequence[Clip], parts: int, seed: int = 0) -> list[int]:
    """A part 0..parts-1 for every clip: each class spread evenly, byte-identical clips together.

    Depends on the clips' identities and the seed alone, not on their order or their folder.

    Raises:
        DataError: ``parts`` is less than 2.
    """
    if parts < 2:
        raise DataError(f"clips are parted in at least 2, got {parts}")
    by_class: defaultdict[int, set[str]] = defaultdict(set)
    for clip in sorted(clips, key=lambda clip: (clip.identity, clip.label)):
        if not any(clip.identity in group for group in by_class.values()):
            by_class[clip.label].add(clip.identity)
    part: dict[str, int] = {}
    dealt = 0
    for label in sorted(by_class):
        identities = sorted(by_class[label])
        for index in np.random.default_rng([seed, label]).permutation(len(identities)):
            part[identities[index]] = dealt % parts  # dealt on over the classes, so that parts stay of one size
            dealt += 1
    return [part[clip.identity] for clip in clips]


def hold_aside(data: ClipSet, parts: int, fold: int, seed: int = 0) -> tuple[ClipSet, ClipSet]:
    """Part the clips: what to learn from, and the ``fold``-th of ``parts`` parts kept out of it."""
    which = fold_of(data.clips, parts, seed)
    return (
        data.only(clip for clip, part in zip(data.clips, which, strict=True) if part != fold),
        data.only(clip for clip, part in zip(data.clips, which, strict=True) if part == fold),
    )

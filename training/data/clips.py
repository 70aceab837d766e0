"""Labelled clips: listing class folders, and splitting the clips. No decoding.

Manifests are read by `training.data.manifests`, the list files of the published data sets by `training.data.lists`.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.errors import DataError
from video.folders import FolderListing, LeftOut, folders_in, shown

NOT_VIDEOS = frozenset({".json", ".txt", ".csv", ".md", ".html", ".xml", ".ini", ".db", ".zip", ".py"})


@dataclass(frozen=True)
class Clip:
    """One labelled video.

    Attributes:
        path: of the file, or of a folder with an image per frame.
        label: class index.
        identity: sha256 of the file, or as `digest` has it of a folder: byte-identical clips are one clip when clips
            are parted.
        also: further classes of a clip that has several.
        template, frames: of a folder of frames: the images' names from their number, counted from 1, and how many
            there are; without a template the folder's images in the order of their names.
        listed: the identity is of what a list says, not of any bytes.
    """

    path: Path
    label: int
    identity: str
    also: tuple[int, ...] = ()
    template: str = ""
    frames: int = 0
    listed: bool = False

    @property
    def all_labels(self) -> tuple[int, ...]:
        """Every class of the clip."""
        return (self.label, *self.also)


@dataclass(frozen=True)
class ClipSet:
    """Labelled clips and the names of their classes.

    Attributes:
        labels: class names; a clip's ``label`` counts them.
        clips: in the order of their paths, or of their list.
        source: what the data set says of itself (``name``, ``source``, ``licence``), for the checkpoint.
        multi_label: a clip may have several classes; the metric is then mean average precision.
        left_out: of a folder, what was not listed although it is not hidden, and why: a line each.
    """

    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    source: Mapping[str, str]
    multi_label: bool = False
    left_out: tuple[str, ...] = ()

    def counts(self) -> tuple[int, ...]:
        """Clips per class."""
        seen = Counter(clip.label for clip in self.clips)
        return tuple(seen[index] for index in range(len(self.labels)))

    def only(self, clips: Iterable[Clip]) -> ClipSet:
        """The same classes with other clips."""
        return replace(self, clips=tuple(clips))


def has_split_folders(folder: Path) -> bool:
    """Whether a folder has its splits as sub-folders: one is ``train`` and holds folders, as a class does not."""
    return (folder / "train").is_dir() and bool(folders_in(folder / "train")[0])


def class_folders(folder: Path, split: str | None = None) -> ClipSet:
    """The clips of a folder per class, or of a folder per split with those in it.

    Classes are those of all splits, so that each split counts them alike. Hidden files and folders are left out and
    links are followed, as `video.folders` says.

    Raises:
        DataError: there is no such split, or the name of a class is not text.
        OSError: the folder cannot be read.
    """
    roots = [folder]
    left_out: list[LeftOut] = []
    if has_split_folders(folder) or split is not None:
        roots, left_out = folders_in(folder)
    found = {root: folders_in(root) for root in roots}
    names = tuple(sorted({entry.name for entries, _ in found.values() for entry in entries}))
    _check_class_names(names)
    wanted = [root for root in roots if split is None or root.name == split]
    if not wanted:
        raise DataError(f"{folder} has neither a manifest nor a folder {split!r}, so it has no such split")
    listings = {name: FolderListing() for name in names}
    clips = []
    for root in wanted:
        entries, skipped = found[root]
        left_out += skipped
        for entry in entries:
            files = listings[entry.name].add(entry, lambda file: file.suffix.lower() not in NOT_VIDEOS)
            clips += [Clip(file, names.index(entry.name), digest(file)) for file in files]
    left_out += [entry for listing in listings.values() for entry in listing.left_out]
    return ClipSet(names, tuple(clips), {"name": folder.name}, left_out=tuple(str(entry) for entry in left_out))


def _check_class_names(names: Iterable[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise DataError(f"the name of class folder {shown(Path(name))} is not UTF-8; rename it") from error


def digest(path: Path) -> str:
    """sha256 of a file, wherever it lies; of its path if it cannot be read, which decoding will then report.

    Of a folder of frames: of all names and sizes, and of the first and the last one's bytes. All of them would be as
    much to read as the whole data set.
    """
    try:
        if path.is_dir():
            return _folder_digest(path)
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return hashlib.sha256(os.fsencode(path)).hexdigest()


def _folder_digest(folder: Path) -> str:
    files = sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if not files:
        raise FileNotFoundError(folder)
    said = [f"{shown(Path(file.name))} {file.stat().st_size}" for file in files] + [digest(files[0]), digest(files[-1])]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


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
    """Part the clips: what to learn from, and the ``fold``-th of ``parts`` parts kept out of it.

    The only clip of a class is never kept out.
    """
    distinct = Counter(label for label, _ in {(clip.label, clip.identity) for clip in data.clips})
    aside = [
        part == fold and distinct[clip.label] > 1
        for clip, part in zip(data.clips, fold_of(data.clips, parts, seed), strict=True)
    ]
    return (
        data.only(clip for clip, out in zip(data.clips, aside, strict=True) if not out),
        data.only(clip for clip, out in zip(data.clips, aside, strict=True) if out),
    )

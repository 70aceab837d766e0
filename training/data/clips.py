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

from adafocus.training.data.groups import assign_parts, has_groups, units_of
from adafocus.training.errors import DataError
from adafocus.video.folders import FolderListing, LeftOut, folders_in, shown

NOT_VIDEOS = frozenset({".json", ".txt", ".csv", ".md", ".html", ".xml", ".ini", ".db", ".zip", ".py"})

BOXES = "boxes.npz"
"""Name of the file of boxes beside a manifest that names none."""


@dataclass(frozen=True)
class Clip:
    """One labelled video.

    Attributes:
        path: path of the file, or of a folder with an image per frame.
        label: class index.
        identity: sha256 of the file, or `digest` of a folder; byte-identical clips stay together in every split.
        also: further classes of a clip that has several.
        template, frames: format of the names of a folder's images, counted from 1, and the number of frames; without
            a template, a folder's images are taken in the order of their names.
        listed: whether the identity was made from a line of a list rather than from the file's bytes.
        group: name of the clip's source, such as a recording or a camera; empty if unknown. A split never divides the
            clips of one group.
    """

    path: Path
    label: int
    identity: str
    also: tuple[int, ...] = ()
    template: str = ""
    frames: int = 0
    listed: bool = False
    group: str = ""

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
        source: the data set's own description (``name``, ``source``, ``licence``), for the checkpoint.
        multi_label: a clip may have several classes; the metric is then mean average precision.
        left_out: of a folder, what was not listed although it is not hidden, and why: a line each.
        boxes: file that says where the thing lies in each frame (`training.data.boxes`); None if there is none.
    """

    labels: tuple[str, ...]
    clips: tuple[Clip, ...]
    source: Mapping[str, str]
    multi_label: bool = False
    left_out: tuple[str, ...] = ()
    boxes: Path | None = None

    def counts(self) -> tuple[int, ...]:
        """Return the number of clips of each class."""
        seen = Counter(clip.label for clip in self.clips)
        return tuple(seen[index] for index in range(len(self.labels)))

    def only(self, clips: Iterable[Clip]) -> ClipSet:
        """Return the same classes with these clips."""
        return replace(self, clips=tuple(clips))


def has_split_folders(folder: Path) -> bool:
    """Return True if a folder has splits as sub-folders: one is ``train`` and holds folders, as a class does not."""
    return (folder / "train").is_dir() and bool(folders_in(folder / "train")[0])


def class_folders(folder: Path, split: str | None = None) -> ClipSet:
    """Return the clips of class folders, or of split folders with class folders in them.

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
    """Return the sha256 of a file; of its path if it cannot be read, which decoding then reports.

    The digest of a folder of frames covers all names and sizes, and the bytes of the first and the last frame. To read
    all of them would take as long as to read the data set.
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
    """Return a part 0..parts-1 for every clip: each class is spread evenly, clips of one unit stay together.

    A unit is a group of clips, or byte-identical clips (`training.data.groups`). The result depends on the clips'
    identities and groups and on the seed alone, not on their order or their folder.

    Raises:
        DataError: ``parts`` is less than 2, or clips have groups and there are fewer units than parts.
    """
    if parts < 2:
        raise DataError(f"clips can be split into at least 2 parts, got {parts}")
    units = units_of(clips)
    if has_groups(clips):
        if len(set(units)) < parts:
            raise DataError(
                f"{len(clips)} clips form {len(set(units))} group(s), too few to split them into {parts} parts; use a "
                "larger holdout, or finer groups"
            )
        part = assign_parts(units, [clip.label for clip in clips], parts, seed)
    else:
        part = _dealt(clips, parts, seed)
    return [part[unit] for unit in units]


def _dealt(clips: Sequence[Clip], parts: int, seed: int) -> dict[str, int]:
    """Return the part of each identity; those of one class are dealt to the parts in turn."""
    label: dict[str, int] = {}
    for clip in sorted(clips, key=lambda clip: (clip.identity, clip.label)):
        label.setdefault(clip.identity, clip.label)
    by_class: defaultdict[int, list[str]] = defaultdict(list)
    for identity in sorted(label):
        by_class[label[identity]].append(identity)
    part: dict[str, int] = {}
    for index in sorted(by_class):
        identities = by_class[index]
        for place in np.random.default_rng([seed, index]).permutation(len(identities)):
            part[identities[place]] = len(part) % parts  # goes on over the classes, to keep parts equal
    return part


def hold_out(data: ClipSet, parts: int, fold: int, seed: int = 0) -> tuple[ClipSet, ClipSet]:
    """Split the clips into training clips and the holdout, which is the ``fold``-th of ``parts`` parts.

    If a class would have no training clip, one of its units (`training.data.groups`) stays with the training clips.

    Raises:
        DataError: as `fold_of`.
    """
    units = units_of(data.clips)
    held = {unit for unit, part in zip(units, fold_of(data.clips, parts, seed), strict=True) if part == fold}
    trained = {clip.label for clip, unit in zip(data.clips, units, strict=True) if unit not in held}
    for clip, unit in sorted(zip(data.clips, units, strict=True), key=lambda pair: pair[1]):
        if clip.label not in trained:
            held.discard(unit)
            trained |= {other.label for other, its in zip(data.clips, units, strict=True) if its == unit}
    out = [unit in held for unit in units]
    return (
        data.only(clip for clip, is_out in zip(data.clips, out, strict=True) if not is_out),
        data.only(clip for clip, is_out in zip(data.clips, out, strict=True) if is_out),
    )

"""Read the list files of the six published data sets, as frames or videos.

A line names a video's folder (or file), its number of frames, and its class; where a video may have several, further
classes follow, and -1 stands for none. Folders are looked for beside the lists and in the sub-folders that the released
code expects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adafocus.training.data.clips import Clip, ClipSet
from adafocus.training.errors import DataError

_ROOTS = ("", "frames", "videos", "20bn-something-something-v1", "20bn-something-something-v2-frames", "20bn-jester-v1")
_SUFFIXES = ("", ".mp4", ".webm", ".mkv", ".avi")


@dataclass(frozen=True)
class ListFormat:
    """The format of one data set's lists.

    Attributes:
        classes: number of classes.
        metric: ``map`` where a video may have several classes, else ``top1``.
        template: format of the name of a frame's image in its video's folder; frames count from 1.
        separator: character between the fields of a line; if it is a space, the path may still hold spaces.
        names: file that names the classes, one per line.
        splits: file name of each split's list.
    """

    classes: int
    metric: str
    template: str
    separator: str
    names: str
    splits: Mapping[str, str]


def _splits(train: str, val: str) -> Mapping[str, str]:
    return {"train": train, "val": val}


_SHIFTED = _splits("train_videofolder.txt", "val_videofolder.txt")

PUBLISHED_LISTS: Mapping[str, ListFormat] = {
    "actnet": ListFormat(
        200, "map", "image_{:05d}.jpg", ",", "classInd.txt", _splits("actnet_train_split.txt", "actnet_val_split.txt")
    ),
    "fcvid": ListFormat(
        239, "map", "image_{:05d}.jpg", ",", "classInd.txt", _splits("fcvid_train_split.txt", "fcvid_val_split.txt")
    ),
    "minik": ListFormat(
        200,
        "top1",
        "img_{:05d}.jpg",
        " ",
        "minik_classInd.txt",
        _splits("mini_train_videofolder.txt", "mini_val_videofolder.txt"),
    ),
    "something": ListFormat(174, "top1", "{:05d}.jpg", " ", "category.txt", _SHIFTED),
    "somethingv2": ListFormat(174, "top1", "{:06d}.jpg", " ", "category.txt", _SHIFTED),
    "jester": ListFormat(27, "top1", "{:05d}.jpg", " ", "category.txt", _SHIFTED),
}
"""The formats by the name that a recipe gives as ``lists``."""


def read_lists(folder: Path, name: str, split: str | None = None) -> ClipSet:
    """Return the clips of a published data set from the lists of the released code.

    Args:
        folder: holds the lists, the class names, and the frames or videos.
        name: of the data set, a key of `PUBLISHED_LISTS`.
        split: ``train`` or ``val``; None reads those of the two that exist.

    Raises:
        DataError: an unknown name or split, no such list, or a line that cannot be understood (named by its number).
    """
    if name not in PUBLISHED_LISTS:
        raise DataError(f"lists must be one of {', '.join(PUBLISHED_LISTS)}, got {name!r}")
    form = PUBLISHED_LISTS[name]
    if split is not None and split not in form.splits:
        raise DataError(f"{name} has no split {split!r}; it has {', '.join(form.splits)}")
    wanted = [form.splits[split]] if split else list(form.splits.values())
    files = [folder / file for file in wanted if split or (folder / file).is_file()]
    if not files:
        raise DataError(f"{folder} has none of the lists {', '.join(wanted)} of {name}")
    clips = [clip for file in files for clip in _clips(file, folder, name)]
    return ClipSet(_class_names(folder / form.names, form.classes), tuple(clips), {"name": name}, form.metric == "map")


def has_list(folder: Path, name: str, split: str) -> bool:
    """Return True if a folder holds a published data set's list of a split."""
    return name in PUBLISHED_LISTS and (folder / PUBLISHED_LISTS[name].splits[split]).is_file()


def _class_names(path: Path, classes: int) -> tuple[str, ...]:
    """Return the class names in the order of their indices; numbered ones if no file names them."""
    if not path.is_file():
        return tuple(f"class_{index:03d}" for index in range(classes))
    names = tuple(line.strip() for line in _lines(path) if line.strip())
    if len(names) != classes or len(set(names)) != classes:
        found = f"{len(set(names))} different classes on {len(names)} lines"
        raise DataError(f"{path} must name {classes} different classes, one per line; it names {found}")
    return names


def _lines(path: Path) -> Sequence[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error


def _clips(path: Path, folder: Path, name: str) -> list[Clip]:
    form = PUBLISHED_LISTS[name]
    clips = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        fields = line.split(",") if form.separator == "," else line.rsplit(None, 2)
        try:
            frames, *classes = (int(field) for field in fields[1:])
        except ValueError:
            classes = []
        labels = tuple(dict.fromkeys(label for label in classes if label != -1))
        if not labels or not all(0 <= label < form.classes for label in labels):
            raise DataError(
                f"{path.name} line {number} is {line.strip()!r}; it should be a path, a number of frames and a class "
                f"from 0 to {form.classes - 1}, separated by {'commas' if form.separator == ',' else 'spaces'}"
            )
        clips.append(_clip(folder, name, fields[0].strip(), frames, labels))
    return clips


def _clip(folder: Path, name: str, entry: str, frames: int, labels: tuple[int, ...]) -> Clip:
    """Return a line's clip: a folder of frames, or a video if there is one of that name."""
    path = _find(folder, entry)
    # Hashing data sets of this size would take hours, and their authors have split them already. The name of the data
    # set is part of the identity, because several data sets number their clips.
    identity = hashlib.sha256(f"{name}\0{entry}\0{frames}".encode()).hexdigest()
    if path.is_file():
        return Clip(path, labels[0], identity, labels[1:], listed=True)
    return Clip(path, labels[0], identity, labels[1:], PUBLISHED_LISTS[name].template, frames, listed=True)


def _find(folder: Path, entry: str) -> Path:
    for root in _ROOTS:
        for suffix in _SUFFIXES:
            path = folder / root / f"{entry}{suffix}"
            if path.exists():
                return path
    return folder / entry

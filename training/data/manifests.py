"""Find the labelled clips of a folder: by a manifest, as JSON or CSV, or else by its class folders.

``manifest.json`` holds ``items`` that name ``file``, ``label`` (or ``labels``, a list), and where they are known
``split``, ``group`` and ``sha256``; ``manifest.csv`` has those as columns, several ``labels`` separated by semicolons.
A ``file`` may be a video or a folder of images, one per frame, and is looked for beside the manifest. Clips of one
``group`` come from one source, such as a recording or a camera, and stay together wherever clips are split. ``boxes``
beside ``items`` names the file of `training.data.boxes`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adafocus.training.data.clips import BOXES, Clip, ClipSet, class_folders, digest, has_split_folders
from adafocus.training.data.lists import has_list, read_lists
from adafocus.training.errors import DataError

MANIFESTS = ("manifest.json", "manifest.csv")


@dataclass(frozen=True, order=True)
class _Row:
    file: str
    labels: tuple[str, ...]
    split: str | None = None
    sha256: str | None = None
    group: str = ""


def find_manifest(data: Path) -> Path | None:
    """Return the manifest that ``data`` is or holds; None if there is none."""
    if data.is_file():
        return data
    return next((data / name for name in MANIFESTS if (data / name).is_file()), None)


def list_clips(data: Path, split: str | None = None, lists: str = "") -> ClipSet:
    """Return the labelled clips of a folder.

    Args:
        data: class folders of videos, or a folder with a manifest, or a manifest.
        split: return only the clips of this split. A folder without a manifest has the splits that its sub-folders
            name (``data/train/<class>``), or none.
        lists: read the lists of this published data set instead (`training.data.lists`).

    Raises:
        DataError: the folder does not exist or has no clips, fewer than two classes, or no such split.
    """
    manifest = find_manifest(data)
    if not data.is_dir() and manifest is None:
        raise DataError(f"{data} is not a folder; give one with a folder of videos per class, or with a {MANIFESTS[0]}")
    if lists and manifest is None:
        found = read_lists(data, lists, split)
    else:
        found = _from_manifest(manifest, split) if manifest else class_folders(data, split)
    if len(found.labels) < 2:
        raise DataError(f"{data} has {len(found.labels)} class(es); training needs at least two")
    if not found.clips:
        raise DataError(f"{data} has no clips" + (f" in split {split!r}" if split else ""))
    return found


def default_split(data: Path, lists: str = "") -> str | None:
    """Return the split to train on: ``train`` if there is one; None, which is everything, otherwise."""
    manifest = find_manifest(data)
    if manifest is not None:
        return "train" if "train" in _splits(_read(manifest)[0]) else None
    return "train" if lists or has_split_folders(data) else None


def published_training(data: Path, lists: str) -> ClipSet | None:
    """Return the clips of a published data set's own training list; None if the list is not there.

    Raises:
        DataError: the list cannot be understood.
    """
    if find_manifest(data) is not None or not has_list(data, lists, "train"):
        return None
    return read_lists(data, lists, "train")


def _from_manifest(path: Path, split: str | None) -> ClipSet:
    rows, source = _read(path)
    boxes = path.parent / source.pop("boxes", BOXES)
    splits = _splits(rows)
    if split is not None and split not in splits:
        raise DataError(f"{path} has no split {split!r}; it has {', '.join(splits) or 'none'}")
    names = tuple(sorted({label for row in rows for label in row.labels}))
    index = {name: number for number, name in enumerate(names)}
    clips = []
    for row in sorted(rows, key=lambda row: (row.file, row.labels)):
        if split is None or row.split == split:
            file = path.parent / row.file
            first, *also = (index[label] for label in row.labels)
            clips.append(Clip(file, first, row.sha256 or digest(file), tuple(also), group=row.group))
    return ClipSet(names, tuple(clips), source, any(len(row.labels) > 1 for row in rows), boxes=_existing(boxes))


def _existing(boxes: Path) -> Path | None:
    """The file of boxes, unless there is none of the default name.

    Raises:
        DataError: the manifest names another one, which is not there.
    """
    if boxes.is_file():
        return boxes
    if boxes.name != BOXES:
        raise DataError(f"{boxes} does not exist; the manifest names it as the file of boxes")
    return None


def _splits(rows: Iterable[_Row]) -> Sequence[str]:
    return sorted({row.split for row in rows if row.split is not None})


def _read(path: Path) -> tuple[list[_Row], dict[str, str]]:
    """Return the rows of a manifest, and its description of the data set."""
    try:
        if path.suffix.lower() == ".csv":
            with path.open(newline="", encoding="utf-8-sig") as file:
                return [_row(item, ";") for item in csv.DictReader(file)], {"name": path.parent.name}
        content = json.loads(path.read_text(encoding="utf-8"))
        source = {key: str(content[key]) for key in ("name", "source", "licence", "boxes") if content.get(key)}
        return [_row(dict(item), None) for item in content["items"]], source
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{path} is not a manifest: each item must name a file and a label ({error!r})") from error


def _row(item: Mapping[str, Any], separator: str | None) -> _Row:
    several = item.get("labels")
    if several:
        parts = several.split(separator) if separator else several
        labels = tuple(dict.fromkeys(str(label).strip() for label in parts))
    else:
        labels = (str(item["label"]),)
    if not item["file"] or not all(labels):
        raise ValueError(f"an item has no file or no label: {dict(item)}")
    group = "" if item.get("group") is None else str(item["group"]).strip()
    return _Row(str(item["file"]), labels, item.get("split") or None, item.get("sha256") or None, group)

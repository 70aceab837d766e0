"""The clips of the study of ``sky``, their folds by session, and the maps that its arms learn from.

`benchmarks.evidence.sky_views` makes the maps, `benchmarks.evidence.sky_folds` trains on them.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from adafocus.training.data.clips import ClipSet
from adafocus.training.data.groups import assign_parts
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.staged.fit import balanced_shares
from adafocus.training.staged.fixed_start import Maps
from benchmarks.evidence.sky_sessions import sessions

FOLDS = 5


def study_options(description: str | None, *folders: str) -> argparse.ArgumentParser:
    """Return a parser of the arguments that the scripts over finished runs share: folders, and ``--write``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    for folder in folders:
        parser.add_argument(folder, type=Path)
    parser.add_argument("--write", action="store_true", help="keep the rows in benchmarks/results")
    return parser


@dataclass(frozen=True)
class Study:
    """The clips and what belongs to each of them.

    Attributes:
        data: the clips. items: their rows of the manifest. units: their sessions. folds: in which each is judged.
        maps: folder of the maps. recipe: of the shipped model.
    """

    data: ClipSet
    items: list[dict[str, Any]]
    units: list[str]
    folds: npt.NDArray[np.int64]
    maps: Path
    recipe: Recipe

    @classmethod
    def open(cls, folder: Path, maps: Path, config: str = "sky") -> Study:
        """Read the manifest; folds spread classes and sensors evenly, as far as sessions permit."""
        data = list_clips(folder)
        rows = {row["file"]: row for row in json.loads((folder / "manifest.json").read_text())["items"]}
        items = [rows[str(clip.path.relative_to(folder))] for clip in data.clips]
        units = sessions(items)
        kinds = [2 * clip.label + (item["sensor"] == "visible") for clip, item in zip(data.clips, items, strict=True)]
        part = assign_parts(units, kinds, FOLDS, seed=0)
        return cls(data, items, units, np.array([part[unit] for unit in units]), maps, load_recipe(config))

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Class of each clip."""
        return np.array([clip.label for clip in self.data.clips])

    def learned(self, cut: str, fold: int) -> tuple[Maps, npt.NDArray[np.int64], Tensor, npt.NDArray[np.float64]]:
        """Return of the views of the other folds: maps, clips, places, and how often each is drawn."""
        index = np.load(self.maps / f"{cut}.npz")
        clips, labels = index["clips"], self.labels
        kept = np.flatnonzero(self.folds[clips] != fold)
        maps = np.load(self.maps / f"{cut}.learned.npy", mmap_mode="r")
        own = sorted(set(clips[kept].tolist()))
        of_clip = dict(zip(own, balanced_shares([labels[n] for n in own], [self.units[n] for n in own]), strict=True))
        counts = np.bincount(clips[kept], minlength=len(labels))
        shares = np.zeros(len(clips))
        shares[kept] = [of_clip[n] / counts[n] for n in clips[kept].tolist()]
        return maps, clips, torch.from_numpy(index["places"]), shares / shares.sum()

    def judged(self, fold: int) -> npt.NDArray[np.int64]:
        """Return the numbers of a fold's clips."""
        return np.flatnonzero(self.folds == fold)

    def served(self, cut: str) -> Maps:
        """Return the maps of the frames as served, [clips, steps, channels, h, w]."""
        maps: Maps = np.load(self.maps / f"{cut}.served.npy", mmap_mode="r")
        return maps

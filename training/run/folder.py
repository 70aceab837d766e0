"""A run folder: the files that a training writes and resumes from.

``state.pt`` holds everything to continue (weights, their average, optimiser, epoch, history) and is replaced whole
after every epoch. Random numbers need no saving: every epoch draws its own from the seed and its number.
``best.pt`` and ``last.pt`` are checkpoints in our format; ``log.csv`` has a row per epoch, ``tensorboard/`` the same.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from adafocus.training.errors import ResumeError
from adafocus.training.optimise.objective import Model
from adafocus.training.optimise.optimiser import WeightAverage
from adafocus.training.recipe import Precision

Row = dict[str, float]


@dataclass
class Progress:
    """Progress of a run: epochs finished, the log so far, and the best value of the monitored metric.

    ``precision`` is the one that the run began with, None before it has begun; ``scaler`` the state of the loss's
    scale.
    """

    epoch: int = 0
    history: list[Row] = field(default_factory=list)
    best: float = -1.0
    precision: Precision | None = None
    scaler: dict[str, Any] = field(default_factory=dict)


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path, fingerprint: str) -> None:
        """Make the folder if need be.

        Args:
            path: the folder.
            fingerprint: of recipe and clips; a run is continued only with the same.
        """
        path.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._fingerprint = fingerprint

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch that did best on the validation clips."""
        return self.path / "best.pt"

    @property
    def last(self) -> Path:
        """Checkpoint of the last finished epoch."""
        return self.path / "last.pt"

    @property
    def events(self) -> Path:
        """Folder with the log for TensorBoard."""
        return self.path / "tensorboard"

    def save(self, progress: Progress, model: Model, average: WeightAverage, optimiser: torch.optim.Optimizer) -> None:
        """Write the state to continue from, whole or not at all."""
        state = {
            "fingerprint": self._fingerprint,
            "epoch": progress.epoch,
            "history": progress.history,
            "best": progress.best,
            "precision": progress.precision,
            "scaler": progress.scaler,
            "model": model.state_dict(),
            "average": average.state(),
            "optimiser": optimiser.state_dict(),
        }
        temporary = self.path / ".state.part"
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path / "state.pt")
        self._write_log(progress.history)

    def resume(self, model: Model, average: WeightAverage, optimiser: torch.optim.Optimizer) -> Progress:
        """Continue where the last finished epoch ended; a new folder starts at epoch 0.

        Raises:
            ResumeError: the folder holds another training, or a state that cannot be read.
        """
        path = self.path / "state.pt"
        if not path.is_file():
            return Progress()
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # damaged files make the reader raise many kinds of errors
            raise ResumeError(f"{path} cannot be read; name another folder, or remove it to start again") from error
        if not isinstance(state, dict) or state.get("fingerprint") != self._fingerprint:
            raise ResumeError(f"{self.path} holds a training of another recipe or other clips; name another folder")
        model.load_state_dict(state["model"])
        average.restore(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        return Progress(state["epoch"], state["history"], state["best"], state.get("precision"), state["scaler"])

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a small file beside the rest."""
        (self.path / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    def _write_log(self, history: Sequence[Row]) -> None:
        temporary = self.path / ".log.part"
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(dict.fromkeys(key for row in history for key in row)))
            writer.writeheader()
            writer.writerows(history)
        temporary.replace(self.path / "log.csv")


def fingerprint(recipe: Mapping[str, Any], identities: Sequence[str], initial: Mapping[str, str]) -> str:
    """A digest of everything that decides the weights: recipe, clips, and the files of initial weights.

    The validation clips and the monitored metric are among ``identities``, because they decide which epoch is the best.
    """
    aside = ("threads", "name", "validation_split", "monitor")
    kept = {key: value for key, value in recipe.items() if key not in aside}
    return hashlib.sha256(json.dumps([kept, list(identities), dict(initial)], sort_keys=True).encode()).hexdigest()

"""Where training starts from: ImageNet weights in local files, for either network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from model.checkpoint import CheckpointError, load_backbone_imagenet
from training.data.clips import digest
from training.errors import DataError
from training.optimise.objective import Model


class Start(Protocol):
    """Where the weights come from before the first step."""

    def load(self, model: Model) -> None:
        """Fill what is not to start from chance."""

    def digests(self) -> dict[str, str]:
        """What tells this start from others: a run is continued only with the same."""


@dataclass(frozen=True)
class InitialWeights:
    """Files in torchvision's format (or the authors', of MobileNetV2); None starts that network from chance."""

    glance: Path | None = None
    focus: Path | None = None

    def load(self, model: Model) -> None:
        """Fill the networks that have a file.

        Raises:
            DataError: a file that cannot be read or does not fit, by its key.
        """
        for name, path in (("glance", self.glance), ("focus", self.focus)):
            if path is not None:
                try:
                    load_backbone_imagenet(model.glance if name == "glance" else model.focus, path)
                except CheckpointError as error:
                    raise DataError(f"the {name} network cannot start from {path}: {error}") from error

    def digests(self) -> dict[str, str]:
        """sha256 of each file that is given, by the network it is for."""
        files = {"glance": self.glance, "focus": self.focus}
        return {name: digest(path) for name, path in files.items() if path is not None}

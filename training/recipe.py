"""A training recipe: everything that decides the weights besides the videos, validated once and frozen.

`training.recipe_files` reads recipes from TOML.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, get_args

from adafocus.model.config import ModelConfig
from adafocus.training.box_recipes import BoxRecipe, StageRecipe
from adafocus.training.errors import RecipeError
from adafocus.training.optimise.losses import Remedies
from adafocus.training.recipe_range import within
from adafocus.video.sampler import Snap
from adafocus.video.transform import Fit

Precision = Literal["fp32", "bf16", "fp16"]
AskedPrecision = Literal["fp32", "bf16", "fp16", "auto"]

Loss = Literal["softmax", "sigmoid"]

Metric = Literal["accuracy", "macro_f1", "map"]

RENAMED_KEYS: Mapping[str, str] = {
    "held_aside": "holdout",
    "watch_split": "validation_split",
    "best_by": "monitor",
}
"""Recipe keys by their names in earlier versions, which keep working in files and in checkpoints."""

_Part = TypeVar("_Part")


@dataclass(frozen=True)
class DataRecipe:
    """The sampling, cropping and augmentation of frames.

    Attributes:
        first_frame: frames before this index are never sampled, neither here nor in serving.
        snap: ``keyframe`` moves each sampled frame to the nearest key frame of its interval in evaluation and serving,
            which saves decoding; ``none`` takes the middle of each interval, as published.
        resize: shorter side after resizing as served, pixels; the centre crop is the model's ``frame_size``.
        fit: how a frame becomes the model's square (`video.transform.Geometry`): ``crop`` as published, or the whole
            frame by ``letterbox`` or ``squeeze``; these need ``resize`` to be the model's ``frame_size``.
        source_size: side of the square that training crops are cut from, pixels; 0 takes ``resize``.
        candidates: frames kept of each segment of a clip, one of which is drawn, segment by segment, each time the clip
            is used (temporal jitter); 1 takes those that serving takes; 0 keeps none, draws from all frames of the
            segment and decodes them anew each time.
        jpeg_quality: kept frames are JPEG of this quality, 1 to 100; 0 keeps raw pixels.
        scales: multi-scale crop: side of the crop as a share of the source square.
        flip: probability of mirroring a clip; 0 where left and right mean something.
        colour: strength of random brightness, contrast and tint of a clip; 0 is off.
        fewest_draws: an epoch draws at least so many clips, the same ones again if there are fewer.
        balance: 0 draws clips as they come, 1 draws every class equally often, between them a compromise.
    """

    first_frame: int = 0
    snap: Snap = "none"
    resize: int = 256
    fit: Fit = "crop"
    source_size: int = 0
    candidates: int = 4
    jpeg_quality: int = 95
    scales: tuple[float, ...] = (1.0, 0.875, 0.75, 0.66)
    flip: float = 0.5
    colour: float = 0.0
    fewest_draws: int = 0
    balance: float = 0.0

    def __post_init__(self) -> None:
        within("data.first_frame", self.first_frame, 0, 1_000_000)
        if self.snap not in get_args(Snap):
            raise RecipeError(f"data.snap is {self.snap!r}; permitted: {', '.join(get_args(Snap))}")
        within("data.resize", self.resize, 8, 4096)
        if self.fit not in get_args(Fit):
            raise RecipeError(f"data.fit is {self.fit!r}; permitted: {', '.join(get_args(Fit))}")
        within("data.source_size", self.source_size, 0, 4096)
        within("data.candidates", self.candidates, 0, 64)
        within("data.jpeg_quality", self.jpeg_quality, 0, 100)
        within("data.flip", self.flip, 0, 1)
        within("data.colour", self.colour, 0, 0.9)
        within("data.fewest_draws", self.fewest_draws, 0, 10_000_000)
        within("data.balance", self.balance, 0, 1)
        if not self.scales:
            raise RecipeError("data.scales is empty; permitted: shares of the source square, above 0 and at most 1")
        for scale in self.scales:
            within("data.scales", scale, 0.05, 1)

    @property
    def source(self) -> int:
        """Side of the square that training crops are cut from, pixels."""
        return self.source_size or self.resize


@dataclass(frozen=True)
class Multipliers:
    """Learning rate of each part as a multiple of the base rate; the defaults are the paper's."""

    policy: float = 0.1
    glance: float = 0.5
    focus: float = 1.0
    classifier: float = 5.0


@dataclass(frozen=True)
class OptimiserRecipe:
    """A cosine schedule for stochastic gradient descent with momentum; the defaults are the paper's.

    Attributes:
        method: ``sgd`` as published, or ``adamw``, whose steps do not depend on the size of the gradient.
        momentum: of ``sgd``.
        lr: base rate at the top of the cosine; warm-up is linear.
        clip_gradient: largest norm of the whole gradient; 0 does not clip.
        loss: ``softmax`` is the paper's cross-entropy over classes; of a clip with several, one is drawn each time.
            ``sigmoid`` decides about each label by itself, for clips that may have several labels or none.
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
    method: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup_epochs: float = 0.0
    clip_gradient: float = 0.0
    loss: Loss = "softmax"
    label_smoothing: float = 0.0
    class_weights: float = 0.0
    average: float = 0.0
    precision: AskedPrecision = "fp32"
    sync_batch_norm: bool = False

    def __post_init__(self) -> None:
        within("optimiser.epochs", self.epochs, 1, 100_000)
        within("optimiser.batch_size", self.batch_size, 2, 65_536)
        within("optimiser.lr", self.lr, 1e-9, 100)
        within("optimiser.momentum", self.momentum, 0, 0.9999)
        within("optimiser.weight_decay", self.weight_decay, 0, 1)
        within("optimiser.warmup_epochs", self.warmup_epochs, 0, self.epochs)
        within("optimiser.clip_gradient", self.clip_gradient, 0, 1e9)
        within("optimiser.label_smoothing", self.label_smoothing, 0, 0.9)
        within("optimiser.class_weights", self.class_weights, 0, 1)
        within("optimiser.average", self.average, 0, 0.99999)
        if self.method not in ("sgd", "adamw"):
            raise RecipeError(f"optimiser.method is {self.method!r}; permitted: sgd, adamw")
        if self.loss not in get_args(Loss):
            raise RecipeError(f"optimiser.loss is {self.loss!r}; permitted: {', '.join(get_args(Loss))}")
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
        holdout: share of the training clips that is kept out to judge epochs and to calibrate on; 0 trains on all.
        fold: which of ``1 / holdout`` parts is kept out.
        threads: of torch on the CPU; 0 leaves its own choice.
        lists: which published data set's list files the data folder holds, one of
            `training.data.lists.PUBLISHED_LISTS`; empty for class folders and manifests.
        validation_split: split that is judged after each epoch to keep the best one; empty judges the holdout.
        monitor: the metric that decides which epoch is the best: ``accuracy``, ``macro_f1`` or ``map``; empty takes
            mean average precision where clips may have several classes, else macro-F1.
        pretrained: networks start from the ImageNet weights of a package on the index, where there is one for them
            (`training.optimise.pretrained`).
    """

    name: str
    model: Mapping[str, Any]
    data: DataRecipe = field(default_factory=DataRecipe)
    optimiser: OptimiserRecipe = field(default_factory=OptimiserRecipe)
    multipliers: Multipliers = field(default_factory=Multipliers)
    remedies: Remedies = field(default_factory=Remedies)
    boxes: BoxRecipe = field(default_factory=BoxRecipe)
    stages: StageRecipe = field(default_factory=StageRecipe)
    seed: int = 0
    holdout: float = 0.2
    fold: int = 0
    threads: int = 0
    lists: str = ""
    validation_split: str = ""
    monitor: Metric | Literal[""] = ""
    pretrained: bool = False

    def __post_init__(self) -> None:
        within("holdout", self.holdout, 0, 0.5)
        within("fold", self.fold, 0, max(0, self.parts - 1))
        within("threads", self.threads, 0, 1024)
        if self.monitor not in ("", *get_args(Metric)):
            raise RecipeError(f"monitor is {self.monitor!r}; permitted: {', '.join(get_args(Metric))}")
        if not isinstance(self.pretrained, bool):
            raise RecipeError(f"pretrained is {self.pretrained!r}; permitted: true or false")
        config = self.model_config(2)
        self._check_boxes(config)
        self._check_stages(config)
        if config.learns_through_auxiliary_heads and not self.remedies.supervision:
            raise RecipeError(
                "remedies.supervision is false; permitted: true for a clip model, whose networks learn through the "
                "auxiliary heads alone"
            )
        if self.data.fit != "crop" and self.data.resize != config.frame_size:
            raise RecipeError(
                f"data.resize is {self.data.resize}; permitted with data.fit {self.data.fit!r}: model.frame_size "
                f"{config.frame_size}"
            )
        if config.frame_size > min(self.data.resize, self.data.source):
            raise RecipeError(
                f"model.frame_size {config.frame_size} must not exceed data.resize {self.data.resize} "
                f"nor data.source_size {self.data.source}"
            )

    def _check_boxes(self, config: ModelConfig) -> None:
        if self.boxes.weight and config.policy != "heatmap":
            raise RecipeError(
                f"boxes.weight is {self.boxes.weight:g}; permitted with model.policy {config.policy!r}: 0, as only "
                "'heatmap' has scores to compare with boxes"
            )
        if self.boxes.used and (not self.data.candidates or config.kind != "frame"):
            raise RecipeError("boxes are used; permitted for frame models with data.candidates of 1 and more")

    def _check_stages(self, config: ModelConfig) -> None:
        if self.stages.used and (config.kind != "frame" or config.policy != "heatmap" or not self.data.candidates):
            raise RecipeError(
                "stages are used; permitted for frame models with model.policy 'heatmap' and data.candidates of 1 and "
                "more"
            )
        if self.stages.used and self.optimiser.loss != "softmax":
            raise RecipeError(f"optimiser.loss is {self.optimiser.loss!r}; permitted with stages: softmax")

    @property
    def parts(self) -> int:
        """The number of folds that the clips are divided into, one of which is the holdout; 0 for none."""
        return round(1 / self.holdout) if self.holdout else 0

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


def parse_recipe(content: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data; keys may have the names of earlier versions.

    Raises:
        RecipeError: an unknown key, a missing one, or a value out of range.
    """
    parts = with_current_names(content)
    parts["data"] = _build("data", DataRecipe, parts.get("data", {}))
    parts["optimiser"] = _build("optimiser", OptimiserRecipe, parts.get("optimiser", {}))
    parts["multipliers"] = _build("multipliers", Multipliers, parts.get("multipliers", {}))
    parts["remedies"] = _build("remedies", Remedies, parts.get("remedies", {}))
    parts["boxes"] = _build("boxes", BoxRecipe, parts.get("boxes", {}))
    parts["stages"] = _build("stages", StageRecipe, parts.get("stages", {}))
    return _build("recipe", Recipe, parts)


def with_current_names(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a recipe with the keys of earlier versions renamed.

    Raises:
        RecipeError: a key is given under both of its names.
    """
    for old, new in RENAMED_KEYS.items():
        if old in content and new in content:
            raise RecipeError(f"recipe has both {new!r} and {old!r}, its earlier name; keep {new!r}")
    return {RENAMED_KEYS.get(key, key): value for key, value in content.items()}


def _build(where: str, kind: type[_Part], values: Mapping[str, Any]) -> _Part:
    known = set(inspect.signature(kind).parameters)
    unknown = sorted(set(values) - known)
    if unknown:
        raise RecipeError(f"{where} has no {unknown[0]!r}; permitted: {', '.join(sorted(known))}")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except TypeError as error:
        raise RecipeError(f"{where} cannot be used: {error}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value

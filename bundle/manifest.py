"""The manifest: everything that a service must know about a trained model, parsed once and frozen.

Letters of shapes: B batch, T steps, C classes, H and W frame height and width in pixels. FLOPs follow the paper's
convention throughout: one multiply-add counts as one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from adafocus.bundle.exit_rule import CalibrationProtocol, ExitRule
from adafocus.bundle.exit_rule import ExitCriterion as ExitCriterion
from adafocus.bundle.graph_files import Flops as Flops
from adafocus.bundle.graph_files import FlopsPart as FlopsPart
from adafocus.bundle.graph_files import FrozenModel
from adafocus.bundle.graph_files import Graph as Graph
from adafocus.bundle.graph_files import GraphFormat as GraphFormat
from adafocus.bundle.graph_files import Precision as Precision
from adafocus.bundle.graph_files import TensorSpec as TensorSpec
from adafocus.bundle.guarantee import Guarantee
from adafocus.bundle.kinds import KINDS
from adafocus.bundle.kinds import ModelKind as ModelKind

SCHEMA_VERSION = 1
"""Raised when an older reader could misread a newer manifest; docs/bundle-format.md lists what changed."""

FULL = "full"
"""The operating point that never exits early. Every bundle has it."""

SHARES_SUM = 1e-3
"""Largest difference from 1 of the sum of shares, which are written as rounded decimals."""

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
LabelThreshold = Annotated[float, Field(gt=0, lt=1)]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]


MAX_LABEL_CHARACTERS = 1000
"""A label is in every answer."""


class FrameGeometry(FrozenModel):
    """The geometry that turns a decoded frame into the square that the model sees (`video.transform.Geometry`)."""

    resize: int = Field(ge=8, le=4096, description="length of the shorter side after resizing, pixels")
    crop: int = Field(ge=8, le=4096, description="side of the square that the model sees, pixels")
    fit: Literal["crop", "letterbox", "squeeze"] = Field(
        default="crop",
        description="crop: the centre square of the resized frame; letterbox: the whole frame between black bars; "
        "squeeze: the whole frame, stretched",
    )

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} must not exceed resize {self.resize}")
        if self.fit != "crop" and self.crop != self.resize:
            raise ValueError(f"resize must be {self.crop}, like crop, with fit {self.fit!r}; got {self.resize}")
        return self


class Sampling(FrozenModel):
    """The frames of a video that the model sees, and the order of its visits (arXiv 2112.14238, section 3)."""

    frames: int = Field(ge=1, le=1024, description="frames sampled uniformly; a clip model's glance frames")
    focus_frames: int | None = Field(default=None, ge=1, le=1024, description="clip models: frames of the focus")
    first_frame: int = Field(default=0, ge=0, description="frames before this index are never sampled")
    snap: Literal["none", "keyframe"] = Field(
        default="none",
        description="keyframe: a sampled frame moves to the nearest key frame of its interval, if there is one",
    )
    order: tuple[int, ...] = Field(description="order[k] is the position in time, 0..frames-1, visited at step k+1")

    @model_validator(mode="after")
    def _order_is_a_permutation(self) -> Self:
        if sorted(self.order) != list(range(self.frames)):
            raise ValueError(f"order must visit each of the {self.frames} sampled frames once, got {self.order}")
        return self


class OperatingPoint(FrozenModel):
    """A named compromise between accuracy and compute: one exit threshold per step."""

    name: Name
    thresholds: tuple[float | None, ...] = Field(
        description="threshold[k]: leave after step k+1 at this confidence or more; null: never leave there. "
        "The last step always answers."
    )
    glance_thresholds: tuple[float | None, ...] | None = Field(
        default=None,
        description="threshold[k]: leave after the glance of step k+1, before its focus, at this confidence or more; "
        "null: never there",
    )
    expected_gflops: float = Field(gt=0, description="mean per video on the calibration split")
    expected_accuracy: float | None = Field(default=None, ge=0, le=1, description="on the calibration split")
    exit_shares: tuple[float, ...] | None = Field(default=None, description="share of calibration videos per step")
    guarantee: Guarantee | None = Field(default=None, description="what was certified; null: nothing is promised")

    def check(self, steps: int) -> None:
        """Check the number of thresholds and shares, and that the shares add up to 1.

        Raises:
            ValueError: there is not one threshold per step, or not one share per step although there are shares.
        """
        if len(self.thresholds) != steps:
            raise ValueError(f"operating point {self.name!r} needs {steps} thresholds, got {len(self.thresholds)}")
        if self.glance_thresholds is not None and len(self.glance_thresholds) != steps:
            raise ValueError(
                f"operating point {self.name!r} needs {steps} glance_thresholds, got {len(self.glance_thresholds)}"
            )
        shares = self.exit_shares
        if shares is None:
            return
        if len(shares) != steps or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > SHARES_SUM:
            raise ValueError(f"exit_shares of operating point {self.name!r} must be {steps} shares that add up to 1")


class Reduced(FrozenModel):
    """Accuracy of graphs of a reduced precision, measured at export against fp32 on the same labelled clips."""

    precision: Precision
    data: str = Field(description="which clips")
    clips: int = Field(ge=1)
    accuracy: float = Field(ge=0, le=1, description="share of the clips answered correctly after all steps")
    accuracy_fp32: float = Field(ge=0, le=1, description="the same for the fp32 graphs")
    agreement: float = Field(ge=0, le=1, description="share of the clips with fp32's answer after all steps")
    exit_step_shift: dict[str, float] = Field(description="per operating point: mean exit step minus that of fp32")
    operating_points: tuple[OperatingPoint, ...] = Field(description="thresholds solved again for this precision")
    kept: tuple[str, ...] = Field(default=(), description="layers kept in fp32 because they lost the most")


class Compressed(FrozenModel):
    """What `adafocus compress` measured: the fp32 graphs' weights are stored in fewer bits and widened at load."""

    data: str = Field(description="which videos the answers were compared on")
    clips: int = Field(ge=1)
    agreement: float = Field(ge=0, le=1, description="share with the same answer after all steps")
    agreement_at_exits: float = Field(ge=0, le=1, description="the same at the operating point where it is lowest")


class Provenance(FrozenModel):
    """The origin of the weights: what is needed to reproduce them, and their licence."""

    data: str
    data_source: str | None = None
    data_licence: str | None = None
    recipe: str | None = None
    seed: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    notes: str | None = None


class Manifest(FrozenModel):
    """Everything that the service must know about a model (docs/bundle-format.md)."""

    schema_version: int = SCHEMA_VERSION
    name: Name
    version: Name
    licence: str
    task: Literal["single_label", "multi_label"] = Field(
        default="single_label", description="multi_label: a video may have several labels, or none"
    )
    kind: ModelKind = Field(description="frame: one frame a step; clip: one step that takes all its frames at once")
    labels: tuple[str, ...] = Field(min_length=2)
    steps: int = Field(ge=1, le=1024)
    geometry: FrameGeometry
    sampling: Sampling
    patch_size: int = Field(ge=1, description="side of the focus patch, pixels of the cropped frame")
    flops: Flops
    temperature: Temperature = Field(default=1.0, description="logits are divided by it before the softmax")
    temperatures: tuple[Temperature, ...] | None = Field(
        default=None, description="one per step, used instead of temperature; null: the same at all steps"
    )
    glance_temperatures: tuple[Temperature, ...] | None = Field(
        default=None, description="one per step, of the logits after the glance; null: those of the step"
    )
    exit_criterion: ExitCriterion = "max_softmax"
    label_thresholds: tuple[LabelThreshold, ...] | None = Field(
        default=None, description="multi_label: a label is present if its probability is above its threshold"
    )
    operating_points: tuple[OperatingPoint, ...] = Field(min_length=1)
    default_point: Name = FULL
    graphs: tuple[Graph, ...] = Field(min_length=2)
    calibration_protocol: CalibrationProtocol | None = Field(
        default=None,
        description="clips that the exit thresholds were solved on: holdout, unseen in training; paper, the training "
        "clips, as published; null: not stated",
    )
    reduced: tuple[Reduced, ...] = Field(default=(), description="one for each precision of the graphs besides fp32")
    compressed: Compressed | None = Field(
        default=None, description="null: weights are stored as they are computed with"
    )
    provenance: Provenance

    @model_validator(mode="before")
    @classmethod
    def _known_schema(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
            found = data["schema_version"]
            raise ValueError(f"schema_version must be {SCHEMA_VERSION} for this version of adafocus, got {found!r}")
        return data

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        longest = max(len(label) for label in self.labels)
        if longest > MAX_LABEL_CHARACTERS:
            raise ValueError(f"a label may have {MAX_LABEL_CHARACTERS} characters, got one with {longest}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct")
        if self.patch_size > self.geometry.crop:
            raise ValueError(f"patch_size {self.patch_size} must not exceed crop {self.geometry.crop}")
        KINDS[self.kind].check(self.steps, self.sampling)
        for name in ("temperatures", "glance_temperatures"):
            heat = getattr(self, name)
            if heat is not None and len(heat) != self.steps:
                raise ValueError(f"{name} must have one for each of {self.steps} steps, got {len(heat)}")
        self._check_task()
        names = [point.name for point in self.operating_points]
        if len(set(names)) != len(names):
            raise ValueError("operating points must have distinct names")
        for needed in (FULL, self.default_point):
            if needed not in names:
                raise ValueError(f"operating point {needed!r} is missing; there are {', '.join(names)}")
        for point in self.operating_points:
            point.check(self.steps)
        full = self.point(FULL)
        if any(threshold is not None for threshold in (*full.thresholds, *(full.glance_thresholds or ()))):
            raise ValueError("all thresholds of operating point 'full' must be null: it never exits early")
        heads = all(graph.width("glance_logits") for graph in self.graphs if graph.component == "glance")
        for point in self.operating_points:
            if any(value is not None for value in point.glance_thresholds or ()) and not heads:
                raise ValueError(
                    f"point {point.name!r} exits after the glance, but a glance graph has no glance_logits"
                )
        return self

    def _check_task(self) -> None:
        several, bounds = self.task == "multi_label", self.label_thresholds
        if several != (self.exit_criterion == "label_margin") or several != (bounds is not None):
            raise ValueError(
                "task multi_label needs exit_criterion label_margin and label_thresholds; no other has them"
            )
        if bounds is not None and len(bounds) != len(self.labels):
            raise ValueError(f"label_thresholds must have one for each of {len(self.labels)} labels, got {len(bounds)}")

    @model_validator(mode="after")
    def _reduced_are_consistent(self) -> Self:
        names = [point.name for point in self.operating_points]
        for reduced in self.reduced:
            if [point.name for point in reduced.operating_points] != names:
                raise ValueError(f"{reduced.precision} needs the operating points {', '.join(names)}, in this order")
            if any(len(point.thresholds) != self.steps for point in reduced.operating_points):
                raise ValueError(f"each operating point of {reduced.precision} needs {self.steps} thresholds")
            for point in reduced.operating_points:
                point.check(self.steps)
        if len({reduced.precision for reduced in self.reduced}) != len(self.reduced):
            raise ValueError("reduced must hold each precision only once")
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy as Pydantic does, but without what was computed from fields that the copy may not share."""
        copy = super().model_copy(update=update, deep=deep)
        copy.__dict__.pop("continuation_rows", None)
        return copy

    def served_in(self, precision: Precision) -> Self:
        """The manifest with the operating points of that precision; unchanged if none were solved for it."""
        for reduced in self.reduced:
            if reduced.precision == precision:
                return self.model_copy(update={"operating_points": reduced.operating_points})
        return self

    def point(self, name: str) -> OperatingPoint:
        """The operating point of that name.

        Raises:
            KeyError: there is none.
        """
        for point in self.operating_points:
            if point.name == name:
                return point
        raise KeyError(name)

    def graph(self, component: Literal["glance", "focus"], fmt: GraphFormat, precision: Precision) -> Graph:
        """The graph of that component, format and precision.

        Raises:
            KeyError: the bundle holds none.
        """
        for graph in self.graphs:
            if (graph.component, graph.format, graph.precision) == (component, fmt, precision):
                return graph
        raise KeyError(f"{component} as {fmt} {precision}")

    @property
    def flops_full(self) -> int:
        """Multiply-adds of one video that never exits early, as served."""
        return self.steps * self.flops.per_step

    @property
    def paper_flops_full(self) -> int:
        """Multiply-adds of one video in the published tables' counting."""
        return self.steps * self.flops.paper_per_step

    @cached_property
    def exit_rule(self) -> ExitRule:
        """How the confidence of each step is computed."""
        heat = self.temperatures or (self.temperature,) * self.steps
        return ExitRule(self.exit_criterion, heat, self.label_thresholds or ())

    @property
    def glance_exit_rule(self) -> ExitRule:
        """How the confidence after the glance of each step is computed."""
        heat = self.glance_temperatures or self.temperatures or (self.temperature,) * self.steps
        return ExitRule(self.exit_criterion, heat, self.label_thresholds or ())

    @cached_property
    def continuation_rows(self) -> dict[str, tuple[float, ...]]:
        """By operating point and step: the share of the calibration videos reaching the step that continued after it.

        1 where it is unknown.
        """
        return {point.name: self._continuation_row(point) for point in self.operating_points}

    def continuation_row(self, name: str) -> tuple[float, ...]:
        """The row of `continuation_rows` of one operating point.

        Raises:
            KeyError: there is no point of that name.
        """
        return self.continuation_rows[name]

    def _continuation_row(self, point: OperatingPoint) -> tuple[float, ...]:
        shares = point.exit_shares
        if shares is None:
            return (1.0,) * self.steps
        reached = [sum(shares[step:]) for step in range(self.steps)]
        return tuple(1.0 - share / left if left > 0 else 1.0 for share, left in zip(shares, reached, strict=True))

    def cheaper_points(self, name: str) -> tuple[str, ...]:
        """Return the points that are cheaper than one by calibration, the dearest first."""
        price = self.point(name).expected_gflops
        cheaper = [point for point in self.operating_points if point.expected_gflops < price]
        return tuple(point.name for point in sorted(cheaper, key=lambda point: -point.expected_gflops))

    def glance_threshold_row(self, name: str) -> tuple[float, ...]:
        """Thresholds of a point after each glance: ``inf`` where it never exits there; empty if it nowhere does."""
        row = self.point(name).glance_thresholds or ()
        return tuple(math.inf if value is None else value for value in row)

    def threshold_row(self, name: str) -> tuple[float, ...]:
        """Thresholds of a point as plain numbers: ``inf`` where it never exits, ``-inf`` at the last step."""
        row = [math.inf if value is None else value for value in self.point(name).thresholds]
        row[-1] = -math.inf
        return tuple(row)

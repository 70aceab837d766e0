"""The manifest: everything that a service must know about a trained model, parsed once and frozen.

Letters of shapes: B batch, T steps, C classes, H and W frame height and width in pixels. FLOPs follow the paper's
convention throughout: one multiply-add counts as one.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from adafocus.bundle.exit_rule import CalibrationProtocol, ExitRule
from adafocus.bundle.exit_rule import ExitCriterion as ExitCriterion
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
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
Temperature = Annotated[float, Field(ge=1e-3, le=1e3)]
GraphFormat = Literal["onnx", "torchscript"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorSpec(_Frozen):
    """One input or output of a graph. A dimension is a size, or the name of a symbolic one (``"batch"``)."""

    name: str
    dtype: Literal["uint8", "int64", "float32"]
    shape: tuple[int | str, ...]


class Graph(_Frozen):
    """One graph file of the bundle, with the checksum that loading verifies."""

    component: Literal["glance", "focus"]
    format: GraphFormat
    precision: Precision
    file: FileName
    sha256: Sha256
    bytes: int = Field(gt=0)
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def width(self, name: str) -> int:
        """Size of the last dimension of the named input or output; 0 if the graph has no such tensor."""
        for spec in (*self.inputs, *self.outputs):
            if spec.name == name:
                last = spec.shape[-1]
                return last if isinstance(last, int) else 0
        return 0


class FrameGeometry(_Frozen):
    """How a decoded frame becomes the model's input: shorter side to ``resize`` pixels, then a centre crop."""

    resize: int = Field(ge=8, le=4096, description="length of the shorter side after resizing, pixels")
    crop: int = Field(ge=8, le=4096, description="side of the centre square that the model sees, pixels")

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.crop > self.resize:
            raise ValueError(f"crop {self.crop} must not exceed resize {self.resize}")
        return self


class Sampling(_Frozen):
    """Which frames of a video the model sees, and in which order it visits them (arXiv 2112.14238, section 3)."""

    frames: int = Field(ge=1, le=1024, description="frames sampled uniformly; a clip model's glance frames")
    focus_frames: int | None = Field(default=None, ge=1, le=1024, description="clip models: frames of the focus")
    first_frame: int = Field(default=0, ge=0, description="frames before this index are never sampled")
    order: tuple[int, ...] = Field(description="order[k] is the position in time, 0..frames-1, visited at step k+1")

    @model_validator(mode="after")
    def _order_is_a_permutation(self) -> Self:
        if sorted(self.order) != list(range(self.frames)):
            raise ValueError(f"order must visit each of the {self.frames} sampled frames once, got {self.order}")
        return self


class FlopsPart(_Frozen):
    """One part of a step's cost. A part without a component counts only in the paper's convention."""

    name: str
    flops: int = Field(ge=0)
    component: Literal["glance", "focus"] | None = None


class Flops(_Frozen):
    """Multiply-adds, computed from the modules when the bundle is exported, never typed by hand."""

    glance: int = Field(gt=0, description="one step of the glance graph as served: glance network and policy")
    focus: int = Field(gt=0, description="one step of the focus graph as served: focus network, classifier, one head")
    paper_per_step: int = Field(gt=0, description="one step in the published tables' counting")
    convention: str = Field(description="what the two counts include")
    parts: tuple[FlopsPart, ...] = Field(default=(), description="what paper_per_step is the sum of")

    @model_validator(mode="after")
    def _parts_add_up(self) -> Self:
        if not self.parts:
            return self
        served = {
            name: sum(part.flops for part in self.parts if part.component == name) for name in ("glance", "focus")
        }
        total = sum(part.flops for part in self.parts)
        if (served["glance"], served["focus"], total) != (self.glance, self.focus, self.paper_per_step):
            raise ValueError("the parts do not add up to glance, focus and paper_per_step")
        return self

    @property
    def per_step(self) -> int:
        """Multiply-adds of one served step."""
        return self.glance + self.focus


class OperatingPoint(_Frozen):
    """A named compromise between accuracy and compute: one exit threshold per step."""

    name: Name
    thresholds: tuple[float | None, ...] = Field(
        description="threshold[k]: leave after step k+1 at this confidence or more; null: never leave there. "
        "The last step always answers."
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
        shares = self.exit_shares
        if shares is None:
            return
        if len(shares) != steps or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > SHARES_SUM:
            raise ValueError(f"exit_shares of operating point {self.name!r} must be {steps} shares that add up to 1")


class Reduced(_Frozen):
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


class Provenance(_Frozen):
    """Where the weights come from: what is needed to reproduce them and to know how they are licensed."""

    data: str
    data_source: str | None = None
    data_licence: str | None = None
    recipe: str | None = None
    seed: int | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    notes: str | None = None


class Manifest(_Frozen):
    """Everything that the service must know about a model (docs/bundle-format.md)."""

    schema_version: int = SCHEMA_VERSION
    name: Name
    version: Name
    licence: str
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
    exit_criterion: ExitCriterion = "max_softmax"
    operating_points: tuple[OperatingPoint, ...] = Field(min_length=1)
    default_point: Name = FULL
    graphs: tuple[Graph, ...] = Field(min_length=2)
    calibration_protocol: CalibrationProtocol | None = Field(
        default=None,
        description="clips that the exit thresholds were solved on: holdout, unseen in training; paper, the training "
        "clips, as published; null: not stated",
    )
    reduced: tuple[Reduced, ...] = Field(default=(), description="one for each precision of the graphs besides fp32")
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
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels must be distinct")
        if self.patch_size > self.geometry.crop:
            raise ValueError(f"patch_size {self.patch_size} must not exceed crop {self.geometry.crop}")
        KINDS[self.kind].check(self.steps, self.sampling)
        if self.temperatures is not None and len(self.temperatures) != self.steps:
            raise ValueError(f"temperatures must have one for each of {self.steps} steps, got {len(self.temperatures)}")
        names = [point.name for point in self.operating_points]
        if len(set(names)) != len(names):
            raise ValueError("operating points must have distinct names")
        for needed in (FULL, self.default_point):
            if needed not in names:
                raise ValueError(f"operating point {needed!r} is missing; there are {', '.join(names)}")
        for point in self.operating_points:
            point.check(self.steps)
        if any(threshold is not None for threshold in self.point(FULL).thresholds):
            raise ValueError("all thresholds of operating point 'full' must be null: it never exits early")
        return self

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

    @property
    def exit_rule(self) -> ExitRule:
        """How the confidence of each step is computed."""
        return ExitRule(self.exit_criterion, self.temperatures or (self.temperature,) * self.steps)

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

    def threshold_row(self, name: str) -> tuple[float, ...]:
        """Thresholds of a point as plain numbers: ``inf`` where it never exits, ``-inf`` at the last step."""
        row = [math.inf if value is None else value for value in self.point(name).thresholds]
        row[-1] = -math.inf
        return tuple(row)

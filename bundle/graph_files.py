"""The part of the manifest that describes graphs: their files, tensors, checksums, and cost in FLOPs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]
Precision = Literal["fp32", "fp16", "bf16", "int8"]
GraphFormat = Literal["onnx", "torchscript"]


class FrozenModel(BaseModel):
    """A part of the manifest: immutable, without unknown fields and without infinite numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TensorSpec(FrozenModel):
    """One input or output of a graph. A dimension is a size, or the name of a symbolic one (``"batch"``)."""

    name: str
    dtype: Literal["uint8", "int64", "float32"]
    shape: tuple[int | str, ...]


class Graph(FrozenModel):
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


class FlopsPart(FrozenModel):
    """One part of a step's cost. A part without a component counts only in the paper's convention."""

    name: str
    flops: int = Field(ge=0)
    component: Literal["glance", "focus"] | None = None


class Flops(FrozenModel):
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

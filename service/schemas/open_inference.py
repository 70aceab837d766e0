"""The schemas of the Open Inference Protocol, with the input and output tensors of this service."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationInfo,
)

from adafocus.bundle.manifest import Manifest
from adafocus.service.schemas.parameters import MAX_MILLISECONDS

NAME = "adafocus"
EXTENSIONS = ("binary_tensor_data",)
HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_HEADER_BYTES = 1 << 20

INPUT = "video"
PARAMETER_NAMES = ("exit", "top_k", "max_gflops", "max_decode_ms", "deadline_ms", "strict")
"""Parameters of a request with the same meaning as for ``POST /classify``."""


def _whole(value: object) -> object:
    """In JSON, 2.0 is a whole number too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Parameter = StrictBool | StrictInt | StrictFloat | StrictStr
Datatype = Literal["BYTES", "FP32", "INT64", "BOOL"]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class TensorMetadata(_Schema):
    """One tensor of the model; -1 in a shape stands for any length."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


INPUTS = (TensorMetadata(name=INPUT, datatype="BYTES", shape=(1,)),)
OUTPUTS = (
    TensorMetadata(name="label", datatype="BYTES", shape=(-1,)),
    TensorMetadata(name="score", datatype="FP32", shape=(-1,)),
    TensorMetadata(name="index", datatype="INT64", shape=(-1,)),
    TensorMetadata(name="answer", datatype="BYTES", shape=(1,)),
)
"""Best class first; ``answer`` is the JSON response of ``POST /classify``."""

PRESENT = TensorMetadata(name="present", datatype="BOOL", shape=(-1,))
"""Which labels the video has; by default only of a model whose videos may have several."""


class ServerMetadata(_Schema):
    """The server."""

    name: str
    version: str
    extensions: tuple[str, ...]


class ModelMetadata(_Schema):
    """The input and output tensors of the model."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The metadata of the model in a bundle."""
        outputs = (*OUTPUTS, PRESENT) if manifest.task == "multi_label" else OUTPUTS
        return cls(name=manifest.name, versions=(manifest.version,), platform=NAME, inputs=INPUTS, outputs=outputs)


class Live(_Schema):
    """The server's liveness."""

    live: bool


class Ready(_Schema):
    """The server's readiness."""

    ready: bool


class ModelReady(_Schema):
    """The model's readiness."""

    name: str
    ready: bool


def _require_data(schema: dict[str, Any]) -> None:
    """Describe ``data`` as generators of clients need it: required, and flat.

    Only the binary extension omits it. It may be nested as deep as the shape, which a JSON schema cannot express.
    """
    schema["required"].append("data")
    schema["properties"]["data"] = {
        "type": "array",
        "items": {"type": "string", "format": "byte"},
        "minItems": 1,
        "maxItems": 1,
        "description": schema["properties"]["data"]["description"],
    }


def _one_dimension_of_one(shape: object) -> object:
    """Reject any other number of elements, with a message about the whole shape instead of one of its sizes."""
    if isinstance(shape, list) and shape and not all(type(size) is int and size == 1 for size in shape):
        raise ValueError(f"a request holds one video, so the shape must be [1] or [1, 1], got {str(shape)[:80]}")
    return shape


def _flat(data: object, info: ValidationInfo) -> object:
    """Flatten the elements of a tensor, which may be nested as its shape says (KServe's V2 protocol).

    Raises:
        ValueError: the nesting does not match the shape.
    """
    shape = info.data.get("shape")
    depth, inner = 0, data
    while isinstance(inner, list):
        if len(inner) != 1:
            raise ValueError(f"a request holds one video, so data must have one element, got {len(inner)}")
        depth, inner = depth + 1, inner[0]
    if shape is not None and depth > 1 and depth != len(shape):
        dimensions = f"{len(shape)} dimension{'s' if len(shape) > 1 else ''}"
        raise ValueError(f"data is nested {depth} deep but the shape has {dimensions}; nest it as deep, or not at all")
    return data if depth == 0 else (inner,)


class InputTensor(_Schema):
    """The video."""

    model_config = ConfigDict(json_schema_extra=_require_data)

    name: Literal["video"]
    datatype: Literal["BYTES"]
    shape: Annotated[
        tuple[Literal[1], ...],
        Field(min_length=1, max_length=8, description="One element: [1], or [1, 1]."),
        BeforeValidator(_one_dimension_of_one),  # after Field, or the JSON schema has no minItems
    ]
    parameters: dict[str, Parameter] | None = Field(
        default=None, description="`binary_data_size`: how many of the bytes after the JSON belong to this tensor."
    )
    data: Annotated[tuple[StrictStr], BeforeValidator(_flat)] | None = Field(
        default=None,
        description="The video in base64, flat or nested as the shape; omitted if it follows the JSON as bytes.",
    )


class RequestedOutput(_Schema):
    """A requested output."""

    name: Literal["label", "score", "index", "answer", "present"]
    parameters: dict[str, Parameter] | None = Field(
        default=None, description="`binary_data`: whether it is returned as bytes after the JSON."
    )


class RequestParameters(_Schema):
    """Parameters of a request; the first six have the same meaning as for ``POST /classify``."""

    model_config = ConfigDict(extra="forbid")

    exit: StrictStr | None = None
    top_k: Annotated[StrictInt, BeforeValidator(_whole), Field(ge=1)] | None = None
    max_gflops: StrictFloat | None = None
    max_decode_ms: StrictFloat | None = None
    deadline_ms: StrictFloat | None = None
    strict: StrictBool | None = None
    binary_data_output: StrictBool = Field(default=False, description="Return all outputs as bytes after the JSON.")
    content_type: StrictStr | None = Field(default=None, description="Ignored; some clients send it.")
    timeout: Annotated[StrictInt, BeforeValidator(_whole)] | None = Field(
        default=None,
        description="Deadline in microseconds, as Triton's clients send it; `deadline_ms` goes first. 0 or less: none.",
    )
    priority: Annotated[StrictInt, BeforeValidator(_whole)] | None = Field(
        default=None, description="Ignored; requests with the nearest deadline run first."
    )

    @property
    def as_pairs(self) -> list[tuple[str, str]]:
        """Names and values, as query parameters of ``/classify``."""
        given = self.model_dump(include=set(PARAMETER_NAMES), exclude_none=True)
        if self.timeout is not None and self.timeout > 0:
            longest = int(MAX_MILLISECONDS * 1e3)
            given.setdefault("deadline_ms", max(1.0, min(self.timeout, longest) / 1e3))
        return [(name, str(value).lower() if isinstance(value, bool) else str(value)) for name, value in given.items()]


class InferenceRequest(_Schema):
    """An inference request."""

    id: str | None = Field(default=None, max_length=256, description="Echoed in the response.")
    parameters: RequestParameters | None = None
    inputs: tuple[InputTensor]
    outputs: Annotated[tuple[RequestedOutput, ...], Field(max_length=len(OUTPUTS) + 1)] | None = Field(
        default=None, description="Default: all outputs."
    )


class OutputTensor(_Schema):
    """One output tensor."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    parameters: dict[str, int] | None = None
    data: list[bool] | list[str] | list[int] | list[float] | None = None


class InferenceResponse(_Schema):
    """The response: tensors with the best class first, and the cost of the answer as parameters."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, str | float | int]
    outputs: list[OutputTensor]

"""The words of the Open Inference Protocol, with the tensors that this service takes and gives."""

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

from bundle.manifest import Manifest
from service.schemas.classify import MAX_DEADLINE_MS

NAME = "adafocus"
EXTENSIONS = ("binary_tensor_data",)
HEADER_LENGTH = "Inference-Header-Content-Length"
MOST_HEADER_BYTES = 1 << 20

INPUT = "video"
ASKED = ("exit", "top_k", "max_gflops", "deadline_ms")
"""Parameters of a request that mean what they mean to ``POST /classify``."""


def _whole(value: object) -> object:
    """In JSON 2.0 is a whole number too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Parameter = StrictBool | StrictInt | StrictFloat | StrictStr
Datatype = Literal["BYTES", "FP32", "INT64"]


class _Word(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class TensorMetadata(_Word):
    """One tensor of the model; -1 in a shape is any length."""

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
"""Best class first; ``answer`` is the JSON of ``POST /classify``."""


class ServerMetadata(_Word):
    """What the server is."""

    name: str
    version: str
    extensions: tuple[str, ...]


class ModelMetadata(_Word):
    """What the model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """Of the model in a bundle."""
        return cls(name=manifest.name, versions=(manifest.version,), platform=NAME, inputs=INPUTS, outputs=OUTPUTS)


class Live(_Word):
    """Whether the server lives."""

    live: bool


class Ready(_Word):
    """Whether the server is ready."""

    ready: bool


class ModelReady(_Word):
    """Whether the model is ready."""

    name: str
    ready: bool


def _comes_in_base64(schema: dict[str, Any]) -> None:
    """In a request all of JSON the video must be there; only beside bytes is it left out."""
    schema["required"].append("data")
    element = {"type": "string", "format": "byte"}
    nested = {"type": "array", "minItems": 1, "maxItems": 1}
    description = schema["properties"]["data"]["description"] + ", flat or nested as the shape says"
    schema["properties"]["data"] = nested | {"items": {"anyOf": [element, nested]}, "description": description}


def _one_dimension_of_one(shape: object) -> object:
    """Refuse every other number of elements, in words rather than by the place in the list."""
    if isinstance(shape, list) and shape and not all(type(size) is int and size == 1 for size in shape):
        raise ValueError(f"a request holds one video, so the shape is [1] or [1, 1]; got {str(shape)[:80]}")
    return shape


def _flat(data: object, info: ValidationInfo) -> object:
    """The elements of a tensor, which may come flat or nested as its shape says (KServe's V2 protocol).

    Raises:
        ValueError: the nesting is not the shape's.
    """
    shape = info.data.get("shape")
    depth, inner = 0, data
    while isinstance(inner, list):
        if len(inner) != 1:
            raise ValueError(f"a request holds one video, so data has one element; got {len(inner)}")
        depth, inner = depth + 1, inner[0]
    if shape is not None and depth > 1 and depth != len(shape):
        dimensions = f"{len(shape)} dimension{'s' if len(shape) > 1 else ''}"
        raise ValueError(f"data is nested {depth} deep and the shape has {dimensions}; nest it alike, or not at all")
    return data if depth == 0 else (inner,)


class InputTensor(_Word):
    """The video."""

    model_config = ConfigDict(json_schema_extra=_comes_in_base64)

    name: Literal["video"]
    datatype: Literal["BYTES"]
    shape: Annotated[
        tuple[Literal[1], ...],
        BeforeValidator(_one_dimension_of_one),
        Field(min_length=1, max_length=8, description="one element: [1], or [1, 1]"),
    ]
    parameters: dict[str, Parameter] | None = Field(
        default=None, description="`binary_data_size`: bytes after the JSON that are this tensor's"
    )
    data: Annotated[tuple[StrictStr], BeforeValidator(_flat)] | None = Field(
        default=None, description="the video in base64; left out beside bytes"
    )


class OutputWish(_Word):
    """An output that is asked for."""

    name: Literal["label", "score", "index", "answer"]
    parameters: dict[str, Parameter] | None = Field(default=None, description="`binary_data`: as bytes after the JSON")


class RequestParameters(_Word):
    """How to look; the first four mean what they mean to ``POST /classify``."""

    model_config = ConfigDict(extra="forbid")

    exit: StrictStr | None = None
    top_k: Annotated[StrictInt, BeforeValidator(_whole), Field(ge=1)] | None = None
    max_gflops: StrictFloat | None = None
    deadline_ms: StrictFloat | None = None
    binary_data_output: StrictBool = Field(default=False, description="all outputs as bytes after the JSON")
    content_type: StrictStr | None = Field(default=None, description="not needed; some clients send it")
    timeout: Annotated[StrictInt, BeforeValidator(_whole)] | None = Field(
        default=None,
        description="microseconds, as Triton's clients say it: a `deadline_ms` where none is given; 0 or less: none",
    )
    priority: Annotated[StrictInt, BeforeValidator(_whole)] | None = Field(
        default=None, description="of Triton's clients; here whoever's deadline is nearest comes first"
    )

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Names and values as query parameters of ``/classify`` would be."""
        given = self.model_dump(include=set(ASKED), exclude_none=True)
        if self.timeout is not None and self.timeout > 0:
            longest = int(MAX_DEADLINE_MS * 1e3)
            given.setdefault("deadline_ms", max(1.0, min(self.timeout, longest) / 1e3))
        return [(name, str(value)) for name, value in given.items()]


class InferenceRequest(_Word):
    """What is asked of the model."""

    id: str | None = Field(default=None, max_length=256, description="echoed")
    parameters: RequestParameters | None = None
    inputs: tuple[InputTensor]
    outputs: Annotated[tuple[OutputWish, ...], Field(max_length=len(OUTPUTS))] | None = Field(
        default=None, description="default: all"
    )


class OutputTensor(_Word):
    """One output."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    parameters: dict[str, int] | None = None
    data: list[str] | list[int] | list[float] | None = None


class InferenceResponse(_Word):
    """The answer: tensors best class first, and what it cost as parameters."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, str | float | int]
    outputs: list[OutputTensor]

"""Parses requests and builds responses of the Open Inference Protocol: JSON, and its binary extension. Pure.

The video is the only element of the BYTES tensor ``video``. In JSON it is base64; in the binary extension its bytes
follow the JSON, after a prefix of four bytes with their number.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import (
    ValidationError,
)

from adafocus.service.errors import BadParameter
from adafocus.service.schemas.classify import Classification
from adafocus.service.schemas.json_video import PLACEHOLDER
from adafocus.service.schemas.open_inference import (
    PARAMETER_NAMES,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    OutputTensor,
    RequestedOutput,
)

LENGTH_PREFIX_BYTES = 4
Values = list[bool] | list[str] | list[int] | list[float]
_FORMATS: Mapping[Datatype, str] = {"FP32": "f", "INT64": "q", "BOOL": "?"}

MAX_JSON_SYNTAX = 1000
"""Limit on commas and opening brackets in a request. Base64 has none, so a request has a few dozen, however large its
video is. Parsing holds the interpreter's lock and makes an object of every value: 60 MB of them blocked the service for
44 s and took 4 GB."""


@dataclass(frozen=True, slots=True)
class Call:
    """A parsed request.

    Attributes:
        request: the JSON.
        video: the video if it is in the JSON and short; None otherwise.
        video_bytes: length of the video that was taken out of the JSON, or that follows it, without its prefix.
    """

    request: InferenceRequest
    video: bytes | None
    video_bytes: int

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """Names and values, as query parameters of ``/classify``."""
        given = self.request.parameters
        return [] if given is None else given.as_pairs


def parse_call(text: bytes, *, binary: bool, video_bytes: int | None = None) -> Call:
    """Parse the JSON of a request.

    Args:
        text: UTF-8.
        binary: whether the bytes of the tensor follow it.
        video_bytes: length of the video that `json_video.VideoInJson` has taken out of it; None if it found none.

    Raises:
        BadParameter: the JSON is not a valid request; the text says what is wrong and what is allowed.
    """
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MAX_JSON_SYNTAX:
        raise BadParameter(f"the JSON has more than {MAX_JSON_SYNTAX} commas and opening brackets, the most allowed")
    try:
        request = InferenceRequest.model_validate_json(text)
    except ValidationError as error:
        raise BadParameter(_explain(error)) from None
    (tensor,) = request.inputs
    if binary:
        return Call(request, None, _declared_size(tensor))
    if tensor.data is None:
        raise BadParameter(
            "inputs.0.data is missing; send the video in base64, or as bytes after the JSON with the header "
            "Inference-Header-Content-Length"
        )
    if video_bytes is not None and tensor.data[0] == PLACEHOLDER:
        return Call(request, None, video_bytes)
    try:
        return Call(request, base64.b64decode(tensor.data[0], validate=True), 0)
    except (binascii.Error, ValueError):
        raise BadParameter("inputs.0.data must be base64") from None


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    *where, name = (str(part)[:40] for part in first["loc"] or ("the request",))
    if first["type"] == "extra_forbidden":
        return f"unknown parameter {name!r}; allowed: {', '.join((*PARAMETER_NAMES, 'binary_data_output'))}"
    return f"{'.'.join([*where, name])}: {first['msg'].removeprefix('Value error, ')}"


def _declared_size(tensor: InputTensor) -> int:
    size = (tensor.parameters or {}).get("binary_data_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < LENGTH_PREFIX_BYTES:
        raise BadParameter(
            f"inputs.0.parameters.binary_data_size must be a whole number of at least {LENGTH_PREFIX_BYTES}, "
            f"got {str(size)[:40]}"
        )
    return size - LENGTH_PREFIX_BYTES


def check_prefix(prefix: bytes, call: Call) -> None:
    """Check that the element's length prefix matches the size of the tensor.

    Raises:
        BadParameter: they differ.
    """
    (length,) = struct.unpack("<I", prefix)
    if length != call.video_bytes:
        raise BadParameter(
            f"the prefix of the BYTES element must be {call.video_bytes}, its length by binary_data_size minus 4, as "
            f"four bytes, little-endian; got {length}"
        )


def answer(call: Call, result: Classification) -> tuple[bytes, int | None]:
    """The body of the response, and the length of its JSON if bytes follow it."""
    known = [prediction.present for prediction in result.predictions]
    present = [place == 0 if value is None else value for place, value in enumerate(known)]
    every: Mapping[str, tuple[Datatype, Values]] = {
        "label": ("BYTES", [prediction.label for prediction in result.predictions]),
        "score": ("FP32", [prediction.score for prediction in result.predictions]),
        "index": ("INT64", [prediction.index for prediction in result.predictions]),
        "answer": ("BYTES", [result.to_json()]),
        "present": ("BOOL", present),
    }
    request = call.request
    standard = request.parameters is not None and request.parameters.binary_data_output
    requested = (
        request.outputs
        if request.outputs
        else tuple(
            RequestedOutput.model_construct(name=name) for name in every if name != "present" or None not in known
        )
    )
    outputs, tail = [], []
    for output in requested:
        datatype, values = every[output.name]
        shape = (len(values),)
        if (output.parameters or {}).get("binary_data", standard) is True:
            packed = _pack(datatype, values)
            tail.append(packed)
            size = {"binary_data_size": len(packed)}
            outputs.append(OutputTensor(name=output.name, datatype=datatype, shape=shape, parameters=size))
        else:
            outputs.append(OutputTensor(name=output.name, datatype=datatype, shape=shape, data=values))
    response = InferenceResponse(
        model_name=result.model.name,
        model_version=result.model.version,
        id=request.id if request.id is not None else result.id,
        parameters=_costs(result),
        outputs=outputs,
    )
    head = response.model_dump_json(exclude_none=True).encode()
    return head + b"".join(tail), len(head) if tail else None


def _pack(datatype: Datatype, values: Values) -> bytes:
    if datatype == "BYTES":
        encoded = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(element)) + element for element in encoded)
    return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)


def _costs(result: Classification) -> dict[str, str | float | int]:
    left, cost = result.exit, result.compute
    threshold = {} if left.threshold is None or math.isinf(left.threshold) else {"exit_threshold": left.threshold}
    return {
        "exit_point": left.point,
        "exit_reason": left.reason,
        "exit_component": left.component,
        "exit_step": left.step,
        "exit_steps": left.steps,
        "exit_confidence": left.confidence,
        **threshold,
        "gflops": cost.gflops,
        "gflops_full": cost.gflops_full,
        "frames_used": cost.frames_used,
        "frames_decoded": cost.frames_decoded,
        "decode_cpu_ms": cost.decode_cpu_ms,
        "total_ms": result.timing_ms.total,
    }

"""The Open Inference Protocol's requests and answers as bytes: JSON, and its binary extension. Pure.

A video is the one element of the BYTES tensor ``video``: in JSON as base64, since JSON holds no bytes; in the binary
extension as it is, behind a length of four bytes, after the JSON.
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

from service.errors import BadParameter
from service.schemas.classify import Classification
from service.schemas.open_inference import (
    ASKED,
    Datatype,
    InferenceRequest,
    InferenceResponse,
    InputTensor,
    OutputTensor,
    OutputWish,
)

LENGTH_PREFIX_BYTES = 4

MOST_JSON_MARKS = 1000
"""Commas and opening brackets of a request. Base64 holds none, so a request has a few dozen, however large its video.
Parsing holds the interpreter's lock and makes an object of every value: 60 MB of them stood the service still for 44 s
and took 4 GB."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request, understood.

    Attributes:
        request: as it came.
        video: in a request all of JSON, the video; None if it follows.
        video_bytes: length of the video that follows the JSON, its prefix not counted.
    """

    request: InferenceRequest
    video: bytes | None
    video_bytes: int

    @property
    def asked(self) -> list[tuple[str, str]]:
        """Names and values as query parameters of ``/classify`` would be."""
        given = self.request.parameters
        return [] if given is None else given.asked


def parse_call(text: bytes, *, binary: bool) -> Call:
    """Understand the JSON of a request.

    Args:
        text: UTF-8.
        binary: whether the tensor's bytes follow it.

    Raises:
        BadParameter: says what is wrong and what would be right.
    """
    if sum(text.count(mark) for mark in (b",", b"[", b"{")) > MOST_JSON_MARKS:
        raise BadParameter(f"the request's JSON may hold {MOST_JSON_MARKS} commas and opening brackets, and holds more")
    try:
        request = InferenceRequest.model_validate_json(text)
    except ValidationError as error:
        raise BadParameter(_explained(error)) from None
    (tensor,) = request.inputs
    if binary:
        return Call(request, None, _announced(tensor))
    if tensor.data is None:
        raise BadParameter("inputs.0.data: the video in base64, or Inference-Header-Content-Length and bytes after it")
    try:
        return Call(request, base64.b64decode(tensor.data[0], validate=True), 0)
    except (binascii.Error, ValueError):
        raise BadParameter("inputs.0.data: a BYTES element in JSON is base64") from None


def _explained(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    *where, name = (str(part)[:40] for part in first["loc"] or ("the request",))
    if first["type"] == "extra_forbidden":
        return f"unknown parameter {name!r}; there are {', '.join((*ASKED, 'binary_data_output'))}"
    return f"{'.'.join([*where, name])}: {first['msg'].removeprefix('Value error, ')}"


def _announced(tensor: InputTensor) -> int:
    size = (tensor.parameters or {}).get("binary_data_size")
    if isinstance(size, bool) or not isinstance(size, int) or size < LENGTH_PREFIX_BYTES:
        raise BadParameter(f"inputs.0.parameters.binary_data_size: a whole number from {LENGTH_PREFIX_BYTES}")
    return size - LENGTH_PREFIX_BYTES


def check_prefix(prefix: bytes, call: Call) -> None:
    """Hold the element's own length against the tensor's.

    Raises:
        BadParameter: they differ.
    """
    (length,) = struct.unpack("<I", prefix)
    if length != call.video_bytes:
        raise BadParameter(
            f"the BYTES element says {length} bytes and binary_data_size leaves it {call.video_bytes}; "
            "it is one element behind its length as four bytes, little-endian"
        )


def answer(call: Call, result: Classification) -> tuple[bytes, int | None]:
    """The answer's body, and the length of its JSON if bytes follow it."""
    every: Mapping[str, tuple[Datatype, list[str] | list[int] | list[float]]] = {
        "label": ("BYTES", [prediction.label for prediction in result.predictions]),
        "score": ("FP32", [prediction.score for prediction in result.predictions]),
        "index": ("INT64", [prediction.index for prediction in result.predictions]),
        "answer": ("BYTES", [result.to_json()]),
    }
    request = call.request
    standard = request.parameters is not None and request.parameters.binary_data_output
    wishes = request.outputs if request.outputs else tuple(OutputWish.model_construct(name=name) for name in every)
    outputs, tail = [], []
    for wish in wishes:
        datatype, values = every[wish.name]
        shape = (len(values),)
        if (wish.parameters or {}).get("binary_data", standard) is True:
            packed = _pack(datatype, values)
            tail.append(packed)
            size = {"binary_data_size": len(packed)}
            outputs.append(OutputTensor(name=wish.name, datatype=datatype, shape=shape, parameters=size))
        else:
            outputs.append(OutputTensor(name=wish.name, datatype=datatype, shape=shape, data=values))
    response = InferenceResponse(
        model_name=result.model.name,
        model_version=result.model.version,
        id=request.id if request.id is not None else result.id,
        parameters=_costs(result),
        outputs=outputs,
    )
    head = response.model_dump_json(exclude_none=True).encode()
    return head + b"".join(tail), len(head) if tail else None


def _pack(datatype: Datatype, values: list[str] | list[int] | list[float]) -> bytes:
    if datatype == "BYTES":
        encoded = [str(value).encode() for value in values]
        return b"".join(struct.pack("<I", len(element)) + element for element in encoded)
    return struct.pack(f"<{len(values)}{'f' if datatype == 'FP32' else 'q'}", *values)


def _costs(result: Classification) -> dict[str, str | float | int]:
    left, cost = result.exit, result.compute
    threshold = {} if left.threshold is None or math.isinf(left.threshold) else {"exit_threshold": left.threshold}
    return {
        "exit_point": left.point,
        "exit_reason": left.reason,
        "exit_step": left.step,
        "exit_steps": left.steps,
        "exit_confidence": left.confidence,
        **threshold,
        "gflops": cost.gflops,
        "gflops_full": cost.gflops_full,
        "frames_used": cost.frames_used,
        "frames_decoded": cost.frames_decoded,
        "total_ms": result.timing_ms.total,
    }

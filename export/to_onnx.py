"""Exports a graph module to an ONNX file, and checks that the file is what the bundle format specifies."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import torch

from adafocus.bundle.manifest import TensorSpec
from adafocus.bundle.signature import Signature
from adafocus.export.errors import ExportError, first_line
from adafocus.export.graphs import ServedGraph, example_inputs

OPSET = 18
"""Old enough that every supported runtime has kernels for all operators, on CPU and GPU."""

IR_VERSION = 10
"""The newest file layout that the oldest ONNX Runtime we allow reads."""

_ONNX_TYPES: dict[int, str] = {
    onnx.TensorProto.UINT8: "uint8",
    onnx.TensorProto.INT64: "int64",
    onnx.TensorProto.FLOAT: "float32",
}


def to_onnx(graph: ServedGraph) -> bytes:
    """Export a graph module to ONNX, one self-contained file, free in its batch dimension.

    The same weights give the same bytes.

    Raises:
        ExportError: torch could not express the graph, or the file is not what the signature says.
    """
    signature = graph.signature()
    names = [spec.name for spec in signature.inputs]
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                graph.eval(),
                example_inputs(signature),
                input_names=names,
                output_names=[spec.name for spec in signature.outputs],
                opset_version=OPSET,
                dynamo=True,
                dynamic_shapes=tuple({0: spec.shape[0]} for spec in signature.inputs),
                external_data=False,
                verbose=False,
            )
    except (torch.onnx.errors.OnnxExporterError, RuntimeError, ValueError) as error:
        raise ExportError(
            f"{graph.component}: torch could not export it: {first_line(error.__cause__ or error)}"
        ) from error
    if program is None:
        raise ExportError(f"{graph.component}: torch exported nothing")
    proto = program.model_proto
    strip(proto)
    check_file(graph.component, proto, signature)
    try:
        content: bytes = proto.SerializeToString(deterministic=True)
    except ValueError as error:
        raise ExportError(f"{graph.component}: larger than the 2 GiB that one ONNX file can hold") from error
    return content


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the messages of torch's exporter about its optional packages and its own deprecated calls."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            warnings.filterwarnings(
                "ignore", message=".*The axis name: (batch|videos) will not be used", category=UserWarning
            )
            yield
    finally:
        logger.setLevel(level)


def strip(proto: onnx.ModelProto) -> None:
    """Drop what names the exporting machine and its source lines, so that equal weights make equal files."""
    proto.doc_string = ""
    del proto.metadata_props[:]
    _strip(proto.graph)


def _strip(graph: onnx.GraphProto) -> None:
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:  # the body of a loop
                _strip(attribute.g)


def check_file(component: str, proto: onnx.ModelProto, signature: Signature) -> None:
    """Compare a file's inputs and outputs with the signature that it must have.

    Raises:
        ExportError: says what differs.
    """
    opsets = {entry.domain: entry.version for entry in proto.opset_import if not entry.domain or _uses(proto, entry)}
    if opsets != {"": OPSET}:
        raise ExportError(f"{component}: the file needs operator sets {opsets}, expected only {OPSET}")
    if proto.ir_version > IR_VERSION:
        raise ExportError(f"{component}: the file's IR version is {proto.ir_version}, not at most {IR_VERSION}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in proto.graph.initializer):
        raise ExportError(f"{component}: the file keeps weights outside itself")
    for side, found, expected in (
        ("inputs", proto.graph.input, signature.inputs),
        ("outputs", proto.graph.output, signature.outputs),
    ):
        specs = tuple(_spec(value) for value in found)
        if specs != expected:
            raise ExportError(f"{component}: {side} are {_show(specs)}, expected {_show(expected)}")


def _uses(proto: onnx.ModelProto, opset: onnx.OperatorSetIdProto) -> bool:
    return any(node.domain == opset.domain for node in proto.graph.node)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    shape = tuple(size.dim_param or size.dim_value for size in tensor.shape.dim)
    dtype = _ONNX_TYPES.get(tensor.elem_type)
    if dtype is None:
        raise ExportError(f"{value.name}: has ONNX type {tensor.elem_type}, which no bundle uses")
    return TensorSpec.model_validate({"name": value.name, "dtype": dtype, "shape": shape})


def _show(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in specs)

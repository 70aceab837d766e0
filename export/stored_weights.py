"""Stores the large weights of an ONNX graph in 8 or 16 bits; the graph widens them and computes in its own precision.

The conversion reads constants alone, so every runtime folds it away when it loads the graph: a step takes the same time
and memory as before, and only the file is smaller. The precision of the graph does not change, unlike with
`export.quantize`, where activations are 8 bits, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from adafocus.export.errors import ExportError

SMALLEST_WEIGHT = 4096
"""Numbers in a tensor from which it is stored in fewer bits; the rest is a few percent of a file."""

SMALLEST_IN_8_BITS = 32768
"""Numbers in a tensor from which 8 bits pay. In the focus of `sky`, smaller ones are a tenth of all and make half of
the error."""

FEWEST_PER_CHANNEL = 16
"""Numbers that a channel in 8 bits must have. A depthwise kernel has nine: errors of so few do not average out."""

_LARGEST = 127
_LARGEST_FLOAT16 = 65504.0

StoredAs = Literal["int8", "float16"]

Float32 = npt.NDArray[np.float32]


def store_weights(content: bytes, stored_as: StoredAs) -> bytes:
    """Return the graph with its large float32 weights stored in another type.

    A graph whose weights are stored so already is returned as it is.

    Args:
        content: an ONNX file. Weights inside loops stay as they are.
        stored_as: ``float16``, which halves the file and keeps three digits of each number; or ``int8`` with a scale
            for each output channel, where a tensor is large enough for it, and ``float16`` elsewhere.

    Raises:
        ExportError: a weight is not finite, or too large for the type.
    """
    proto = onnx.load_from_string(content)
    graph = proto.graph
    axes = dict(_channel_axes(graph.node))
    widening: list[NodeProto] = []
    for tensor in list(graph.initializer):
        if tensor.name not in axes or tensor.data_type != TensorProto.FLOAT:
            continue
        weight, axis = numpy_helper.to_array(tensor), axes[tensor.name]
        if weight.size < SMALLEST_WEIGHT:
            continue
        if not np.isfinite(weight).all():
            raise ExportError(f"{tensor.name}: a weight is not a finite number")
        in_8_bits = stored_as == "int8" and _suits_int8(weight, axis)
        initializers, nodes = _as_int8(tensor.name, weight, axis) if in_8_bits else _as_float16(tensor.name, weight)
        graph.initializer.remove(tensor)
        graph.initializer.extend(initializers)
        widening += nodes
    if not widening:
        return content
    nodes = [*widening, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def quantised(weight: Float32, axis: int) -> tuple[npt.NDArray[np.int8], Float32]:
    """A weight as int8 of the same shape, and the float32 scale of each index along an axis, ready to be broadcast.

    Each number differs from its stored value times the scale by at most half a scale. Zeros stay zeros.
    """
    others = tuple(index for index in range(weight.ndim) if index != axis)
    largest = np.abs(weight).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / np.float32(_LARGEST), np.float32(1)).astype(np.float32)
    # The quotient of two subnormal numbers may exceed 127.
    stored = np.clip(np.rint(weight / np.maximum(scale, np.finfo(np.float32).tiny)), -_LARGEST, _LARGEST)
    return stored.astype(np.int8), scale


def _channel_axes(nodes: Iterable[NodeProto]) -> Iterator[tuple[str, int]]:
    """Yield the names of what layers take as weights, each with the axis of its output channels, counted from 0."""
    for node in nodes:
        if node.op_type == "Conv":
            yield node.input[1], 0
        elif node.op_type == "Gemm":
            yield node.input[1], 0 if _flag(node, "transB") else 1
        elif node.op_type == "MatMul":
            yield node.input[1], 1


def _flag(node: NodeProto, name: str) -> bool:
    return any(attribute.name == name and attribute.i for attribute in node.attribute)


def _suits_int8(weight: Float32, axis: int) -> bool:
    return weight.size >= SMALLEST_IN_8_BITS and weight.size // weight.shape[axis] >= FEWEST_PER_CHANNEL


_Parts = tuple[list[TensorProto], list[NodeProto]]
"""Initializers in place of a weight, and the nodes that compute it from them."""


def _as_int8(name: str, weight: Float32, axis: int) -> _Parts:
    stored, scale = quantised(weight, axis)
    scaling = helper.make_node("Mul", [f"{name}.wide", f"{name}.scale"], [name], name=f"scale_{name}")
    return (
        [numpy_helper.from_array(stored, f"{name}.stored"), numpy_helper.from_array(scale, f"{name}.scale")],
        [_cast(name, f"{name}.wide"), scaling],
    )


def _as_float16(name: str, weight: Float32) -> _Parts:
    largest = float(np.abs(weight).max())
    if largest > _LARGEST_FLOAT16:
        raise ExportError(f"{name}: a weight of {largest:g} is beyond fp16, which ends at {_LARGEST_FLOAT16:g}")
    return [numpy_helper.from_array(weight.astype(np.float16), f"{name}.stored")], [_cast(name, name)]


def _cast(name: str, target: str) -> NodeProto:
    return helper.make_node("Cast", [f"{name}.stored"], [target], name=f"widen_{name}", to=TensorProto.FLOAT)

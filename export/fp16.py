"""Converts an fp32 graph to fp16 for GPUs; patch positions and pixels stay in full precision.

Inputs and outputs stay float32. A processor computes such a graph too, widening every number: slowly, but accurately
enough to verify it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from adafocus.bundle.signature import Signature
from adafocus.export.errors import ExportError
from adafocus.export.to_onnx import check_file, strip

_LOOPS = ("Loop", "Scan")
"""Loops stay in fp32: their bodies hold the recurrence's product with its state."""


def to_half(content: bytes, signature: Signature) -> bytes:
    """Convert everything from the first convolution on to fp16; the graph's inputs and outputs stay as they are.

    Raises:
        ExportError: a weight is too large for fp16.
    """
    proto = onnx.shape_inference.infer_shapes(onnx.load_from_string(content))
    graph = proto.graph
    body = _body(graph.node, _floats(graph))
    names = {node.name for node in body}
    inside = {output for node in body for output in node.output}
    weights = _halve_weights(graph, body)
    kept = {name for node in graph.node if node.name not in names for name in node.input}
    kept.update(output.name for output in graph.output)
    entering: dict[str, NodeProto] = {}
    rename = {name: f"{name}_half" for name in inside & kept} | {name: f"{name}_half" for name in weights}
    floats = _floats(graph)
    for node in body:
        for index, name in enumerate(node.input):
            if name in rename:
                node.input[index] = rename[name]
            elif name in floats and name not in inside:
                half = f"{name}_half"
                entering.setdefault(name, _cast(name, half, TensorProto.FLOAT16))
                node.input[index] = half
        for index, name in enumerate(node.output):
            node.output[index] = rename.get(name, name)
    leaving = [_cast(f"{name}_half", name, TensorProto.FLOAT) for name in sorted(inside & kept)]
    ordered = _in_order([*graph.node, *entering.values(), *leaving], graph)
    del graph.node[:]
    graph.node.extend(ordered)
    del graph.value_info[:]
    strip(proto)
    check_file("half precision", proto, signature)
    return bytes(proto.SerializeToString(deterministic=True))


def _floats(graph: onnx.GraphProto) -> set[str]:
    """Names of all float32 tensors."""
    typed = [*graph.input, *graph.output, *graph.value_info]
    found = {value.name for value in typed if value.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT}


def _body(nodes: Iterable[NodeProto], floats: set[str]) -> list[NodeProto]:
    """Nodes that compute float32 numbers, from the first convolution on."""
    found: list[NodeProto] = []
    for node in nodes:
        if (
            (found or node.op_type == "Conv")
            and node.op_type not in _LOOPS
            and all(map(floats.__contains__, node.output))
        ):
            found.append(node)
    return found


def _halve_weights(graph: onnx.GraphProto, body: Iterable[NodeProto]) -> set[str]:
    """Add an fp16 copy of each float32 initializer that the body reads; remove originals that nothing else reads."""
    names = {node.name for node in body}
    read = {name for node in graph.node if node.name in names for name in node.input}
    elsewhere = {name for node in graph.node if node.name not in names for name in node.input}
    halved = set()
    for tensor in list(graph.initializer):
        if tensor.name not in read or tensor.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if not np.isfinite(half).all():
            raise ExportError(
                f"{tensor.name}: a weight of {np.abs(values).max():g} is beyond fp16, which ends at 65504"
            )
        halved.add(tensor.name)
        graph.initializer.append(numpy_helper.from_array(half, f"{tensor.name}_half"))
        if tensor.name not in elsewhere:
            graph.initializer.remove(tensor)
    return halved


def _cast(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"to_{target}", to=to)


def _in_order(nodes: list[NodeProto], graph: onnx.GraphProto) -> list[NodeProto]:
    """Sort the nodes so that each comes after the nodes whose outputs it reads."""
    known = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer} | {""}
    waiting, ordered = list(nodes), []
    while waiting:
        ready = [node for node in waiting if known.issuperset(node.input)]
        if not ready:
            raise ExportError("the graph reads a tensor that nothing computes")
        for node in ready:
            known.update(node.output)
        ordered += ready
        ids = {id(node) for node in ready}
        waiting = [node for node in waiting if id(node) not in ids]
    return ordered

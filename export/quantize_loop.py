"""Quantises the recurrence's product with its state, in a loop's body, which ONNX Runtime's quantiser skips.

Its weights move into the body: if they were outside, ONNX Runtime would convert them to fp32 in every iteration.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, GraphProto, NodeProto, helper, numpy_helper

STATE_STEP = np.float32(1 / 127)
"""Scale of the rounded state, which is always between -1 and 1: it is a mean of hyperbolic tangents and zeros."""


def products_in_loops(graph: GraphProto) -> Iterator[tuple[GraphProto, NodeProto]]:
    """Products of a loop's state with weights, each with the body that it stands in."""
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                body = attribute.g
                states = {value.name for value in body.input}
                yield from (
                    (body, inner) for inner in body.node if inner.op_type == "Gemm" and inner.input[0] in states
                )


def quantize_products(graph: GraphProto, names: Collection[str]) -> None:
    """Quantise those of the products in loops that have these names: weights and biases per output, symmetrically."""
    outside = {tensor.name: tensor for tensor in graph.initializer}
    for body, product in list(products_in_loops(graph)):
        if product.name not in names:
            continue
        state, weight, bias = product.input
        weights, biases = (
            numpy_helper.to_array(outside[name]) for name in (weight, bias)
        )  # (outputs, inputs), (outputs)
        steps = np.maximum(np.abs(weights).max(axis=1), np.finfo(np.float32).tiny) / np.float32(127)
        rounded = np.rint(weights / steps[:, None]).astype(np.int8)
        made = [
            _node(body, "QuantizeLinear", state, f"{state}_quantized", STATE_STEP, np.int8(0)),
            _node(body, "DequantizeLinear", f"{state}_quantized", f"{state}_rounded", STATE_STEP, np.int8(0)),
            *_kept(body, weight, rounded, steps),
            *_kept(body, bias, np.rint(biases / (steps * STATE_STEP)).astype(np.int32), steps * STATE_STEP),
        ]
        product.input[:] = [f"{name}_rounded" for name in product.input]
        nodes = list(body.node)
        place = nodes.index(product)
        del body.node[:]
        body.node.extend([*nodes[:place], *made, *nodes[place:]])
        for name in (weight, bias):
            graph.initializer.remove(outside[name])


def _kept(body: GraphProto, name: str, values: npt.NDArray[Any], steps: npt.NDArray[np.float32]) -> Iterator[NodeProto]:
    """Nodes in the body: the int8 weights, and the nodes that scale them back."""
    body.initializer.append(numpy_helper.from_array(values, f"{name}_quantized"))
    yield _node(
        body, "DequantizeLinear", f"{name}_quantized", f"{name}_rounded", steps, np.zeros(len(steps), values.dtype)
    )


def _node(body: GraphProto, kind: str, source: str, target: str, step: npt.ArrayLike, zero: npt.ArrayLike) -> NodeProto:
    given = [source, f"{target}_step", f"{target}_zero"]
    for name, value in zip(given[1:], (step, zero), strict=True):
        body.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return helper.make_node(kind, given, [target], name=f"{target}_{kind}", axis=0)

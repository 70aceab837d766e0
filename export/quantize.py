"""An fp32 graph to int8: static, per channel, from the ranges that its tensors have on real frames.

What is quantised is the networks' bodies: convolutions, the large products, and the additions and activations between
them. Pixels, patches, the recurrence's gates, the heads and every small product stay in fp32.
"""

from __future__ import annotations

# isort: off
import adafocus.bundle.onnx_runtime  # noqa: F401 - before ONNX Runtime's own modules: it switches its telemetry off
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
# isort: on

import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from adafocus.bundle.signature import Signature
from adafocus.export.artefact import Artefact, Feeds, Float32, OnnxGraph
from adafocus.export.errors import ExportError, first_line
from adafocus.export.quantize_loop import products_in_loops, quantize_products
from adafocus.export.to_onnx import check_file, strip

SMALL_PRODUCT = 1 << 16
"""The smallest number of weights for which a product is quantised."""

_WEIGHTED = ("Conv", "Gemm")
_FOLLOWING = ("Relu", "Clip", "Add", "MaxPool")


@dataclass(frozen=True)
class Layer:
    """A convolution or a product, and what is computed from it before the next one.

    Attributes:
        name: of its weights, as the model names them.
        nodes: of the graph.
    """

    name: str
    nodes: tuple[str, ...]


def layers_of(content: bytes) -> tuple[Layer, ...]:
    """The layers of an fp32 graph that can be quantised: those in loops, then the others in the order of the graph."""
    graph = onnx.load_from_string(content).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    maker = {output: node for node in graph.node for output in node.output}
    owner: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for _, product in products_in_loops(graph):
        if sizes.get(product.input[1], 0) >= SMALL_PRODUCT:
            found[_layer_name(product.input[1])] = [product.name]
    for node in graph.node:
        if node.op_type in _WEIGHTED:
            weights = node.input[1]
            if node.op_type == "Conv" or sizes.get(weights, 0) >= SMALL_PRODUCT:
                owner[node.name] = _layer_name(weights)
        elif node.op_type in _FOLLOWING:
            before = [maker[name] for name in node.input if name not in sizes and name in maker]
            owners = [owner[made.name] for made in before if made.name in owner and made.op_type != "Gemm"]
            data = [made for made in before if made.op_type not in ("Constant", "Cast")]
            if owners and len(owners) == len(data):
                owner[node.name] = owners[-1]
        if node.name in owner:
            found.setdefault(owner[node.name], []).append(node.name)
    return tuple(Layer(name, tuple(nodes)) for name, nodes in found.items())


def quantize(content: bytes, signature: Signature, feeds: Sequence[Feeds], layers: Collection[Layer]) -> bytes:
    """Quantise some layers of an fp32 ONNX graph; its tensors' names, types and shapes stay.

    The same weights, frames and layers give the same bytes.

    Args:
        content: the fp32 graph.
        signature: that it has.
        feeds: inputs from real frames; values beyond their ranges will be clipped.
        layers: of `layers_of`; at least one.

    Raises:
        ExportError: ONNX Runtime cannot quantise the graph.
    """
    proto = onnx.load_from_string(content)
    nodes = {node for layer in layers for node in layer.nodes}
    in_loops = nodes & {product.name for _, product in products_in_loops(proto.graph)}
    if nodes - in_loops:
        proto = _quantized_outside_loops(proto, feeds, sorted(nodes - in_loops))
    quantize_products(proto.graph, in_loops)
    strip(proto)
    check_file("quantised", proto, signature)
    return bytes(proto.SerializeToString(deterministic=True))


def _quantized_outside_loops(proto: onnx.ModelProto, feeds: Sequence[Feeds], nodes: list[str]) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        try:
            quantize_static(
                proto,
                str(path),
                _Feeds(feeds),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=[*_WEIGHTED, *_FOLLOWING],
                nodes_to_quantize=nodes,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # A product's result is read by fp32 gates or heads: rounding it would save nothing.
                extra_options={"WeightSymmetric": True, "OpTypesToExcludeOutputQuantization": ["Gemm"]},
            )
        except Exception as error:  # ONNX Runtime has no public exception base class
            raise ExportError(f"the graph cannot be quantised: {first_line(error)}") from error
        return onnx.load(path)


def sensitivity(content: bytes, signature: Signature, feeds: Sequence[Feeds], component: str) -> dict[str, float]:
    """The largest error of an output if only that layer is quantised, by layer: root mean square over its spread."""
    wanted = _outputs(OnnxGraph(component, content, threads=1), feeds)
    found = {}
    for layer in layers_of(content):
        artefact = OnnxGraph(component, quantize(content, signature, feeds, [layer]), threads=1)
        found[layer.name] = _distance(wanted, _outputs(artefact, feeds))
    return found


def _outputs(artefact: Artefact, feeds: Sequence[Feeds]) -> dict[str, Float32]:
    ran = [artefact.run(feed) for feed in feeds]
    return {name: np.concatenate([outputs[name] for outputs in ran]) for name in ran[0]}


def _distance(wanted: Mapping[str, Float32], found: Mapping[str, Float32]) -> float:
    return max(
        float(np.sqrt(np.mean(np.square(found[name] - value))) / (value.std() + 1e-12))
        for name, value in wanted.items()
    )


def _layer_name(weights: str) -> str:
    return weights.removeprefix("model.").removesuffix(".weight").removesuffix(".conv")


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime's tools have no types
    """Gives ONNX Runtime's quantiser the inputs of one call after the other."""

    def __init__(self, feeds: Sequence[Feeds]) -> None:
        self._waiting = iter(feeds)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        """The inputs of the next call, or None."""
        feed = next(self._waiting, None)
        return None if feed is None else dict(feed)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the quantiser's advice, which it logs to the root logger."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)

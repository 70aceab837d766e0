"""Graphs for GPUs can be captured and replayed: no control flow, and no operator that a GPU's runtime lacks."""

from __future__ import annotations

import onnx

from adafocus.bundle.signature import VIDEOS
from adafocus.export.fp16 import to_half
from adafocus.export.graphs import graphs_in
from adafocus.model.adafocus import AdaFocus
from adafocus.model.tsm import AdaFocusTSM
from tests.once import Once

CAPTURABLE = {
    *(
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Cast",
        "Clip",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "Conv",
        "Div",
    ),
    *("Expand", "Flatten", "Floor", "Gather", "GatherElements", "GatherND", "Gemm", "GlobalAveragePool"),
    *(
        "GlobalMaxPool",
        "Greater",
        "GreaterOrEqual",
        "Identity",
        "Less",
        "MatMul",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "Neg",
    ),
    *("Not", "Pad", "Pow", "Range", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Resize", "Shape"),
    *(
        "Sigmoid",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
    ),
}
"""Operators of the CUDA provider that neither branch nor loop. An operator that is new here wants a look at whether
ONNX Runtime can capture it, before it is added."""


def operators(graph: onnx.GraphProto) -> set[str]:
    return {node.op_type for node in graph.node}


def test_graphs_for_gpus_hold_only_what_can_be_captured(
    frame_network: AdaFocus, clip_network: AdaFocusTSM, once: Once
) -> None:
    for network in (frame_network, clip_network):
        for served in graphs_in(network, "fp16"):
            half = onnx.load_from_string(to_half(once.to_onnx(served), served.signature()))
            assert operators(half.graph) <= CAPTURABLE
            bodies = [attribute for node in half.graph.node for attribute in node.attribute if attribute.HasField("g")]
            assert bodies == []
            assert all(spec.shape[0] != VIDEOS for spec in served.signature().inputs)


def test_graphs_for_processors_look_ahead(frame_network: AdaFocus, once: Once) -> None:
    for precision in ("fp32", "int8"):
        glance, focus = graphs_in(frame_network, precision)
        for served in (glance, focus):
            assert any(spec.shape[0] == VIDEOS for spec in served.signature().inputs)
    assert "Scan" in operators(onnx.load_from_string(once.to_onnx(graphs_in(frame_network, "fp32")[0])).graph)

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from adafocus.export.artefact import OnnxGraph
from adafocus.export.describe import graph_entry
from adafocus.export.errors import ExportError
from adafocus.export.fp16 import to_half
from adafocus.export.graphs import served_graphs
from adafocus.model.adafocus import AdaFocus
from adafocus.model.tsm import AdaFocusTSM
from tests import tolerances
from tests.export.test_to_onnx import random_feeds
from tests.once import Once


def test_an_fp16_graph_has_the_same_outside_and_nearly_the_same_answers(
    frame_network: AdaFocus, clip_network: AdaFocusTSM, once: Once
) -> None:
    for graph in (*served_graphs(frame_network), *served_graphs(clip_network)):
        content = once.to_onnx(graph)
        half = to_half(content, graph.signature())
        assert len(half) < 0.75 * len(content)
        onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
        feeds = random_feeds(graph_entry(graph, "onnx", "fp16", half), 3)
        wanted = OnnxGraph(graph.component, content, threads=1).run(feeds)
        found = OnnxGraph(graph.component, half, threads=1).run(feeds)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=tolerances.FP16_OUTPUTS)


def test_where_patches_lie_is_computed_in_full(frame_network: AdaFocus, once: Once) -> None:
    focus = served_graphs(frame_network)[1]
    graph = onnx.load_from_string(to_half(once.to_onnx(focus), focus.signature())).graph
    typed = {
        value.name: value for value in onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph)).graph.value_info
    }
    floors = [node for node in graph.node if node.op_type == "Floor"]
    assert len(floors) == 2
    for node in floors:
        assert typed[node.output[0]].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_a_weight_beyond_fp16_is_named(frame_network: AdaFocus, once: Once) -> None:
    focus = served_graphs(frame_network)[1]
    proto = onnx.load_from_string(once.to_onnx(focus))
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith("stem.conv.weight"))
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = 1e6
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ExportError, match=r"stem\.conv\.weight: a weight of 1e\+06 is beyond fp16"):
        to_half(proto.SerializeToString(), focus.signature())

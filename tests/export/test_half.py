from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from bundle.signature import Signature
from export.artefact import OnnxGraph
from export.compose import Export
from export.errors import ExportError
from export.half import to_half
from tests.export.test_to_onnx import random_feeds

ERROR = 2e-2
"""Of an fp16 output; the small networks' outputs are of the order of 1."""


@pytest.mark.parametrize("component", ["glance", "focus"])
def test_an_fp16_graph_has_the_same_outside_and_nearly_the_same_answers(
    frame_export: Export, clip_export: Export, component: str
) -> None:
    for made in (frame_export, clip_export):
        graph = next(graph for graph in made.manifest.graphs if graph.component == component)
        content = made.files[graph.file]
        half = to_half(content, Signature(graph.inputs, graph.outputs))
        assert len(half) < 0.75 * len(content)
        onnx.checker.check_model(onnx.load_from_string(half), full_check=True)
        feeds = random_feeds(graph, 3)
        wanted = OnnxGraph(component, content, threads=1).run(feeds)
        found = OnnxGraph(component, half, threads=1).run(feeds)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=ERROR)


def test_where_patches_lie_is_computed_in_full(frame_export: Export) -> None:
    focus = frame_export.manifest.graph("focus", "onnx", "fp32")
    graph = onnx.load_from_string(to_half(frame_export.files[focus.file], Signature(focus.inputs, focus.outputs))).graph
    typed = {
        value.name: value for value in onnx.shape_inference.infer_shapes(onnx.helper.make_model(graph)).graph.value_info
    }
    floors = [node for node in graph.node if node.op_type == "Floor"]
    assert len(floors) == 2
    for node in floors:
        assert typed[node.output[0]].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_a_weight_beyond_fp16_is_named(frame_export: Export) -> None:
    focus = frame_export.manifest.graph("focus", "onnx", "fp32")
    proto = onnx.load_from_string(frame_export.files[focus.file])
    tensor = next(tensor for tensor in proto.graph.initializer if tensor.name.endswith("stem.conv.weight"))
    values = numpy_helper.to_array(tensor).copy()
    values.flat[0] = 1e6
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ExportError, match=r"stem\.conv\.weight: a weight of 1e\+06 is beyond fp16"):
        to_half(proto.SerializeToString(), Signature(focus.inputs, focus.outputs))

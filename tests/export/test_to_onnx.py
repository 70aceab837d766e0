from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from adafocus.bundle.manifest import Graph
from adafocus.bundle.signature import Signature, looks_ahead
from adafocus.export.artefact import OnnxGraph
from adafocus.export.errors import ExportError
from adafocus.export.exporter import Export
from adafocus.export.graphs import served_graphs
from adafocus.export.to_onnx import check_file, to_onnx
from adafocus.model.adafocus import AdaFocus
from tests import tolerances


def graphs_of(*exports: Export) -> list[tuple[Graph, bytes]]:
    return [(graph, made.files[graph.file]) for made in exports for graph in made.manifest.graphs]


def random_feeds(graph: Graph, batch: int, seed: int = 0) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for spec in graph.inputs:
        shape = [batch, *(int(size) for size in spec.shape[1:])]
        if spec.dtype == "float32":
            feeds[spec.name] = random.random(shape, dtype=np.float32)
        else:
            feeds[spec.name] = random.integers(0, 256 if spec.dtype == "uint8" else 4, shape).astype(spec.dtype)
    return feeds


def test_any_batch_runs_and_rows_answer_as_they_do_alone(frame_export: Export, clip_export: Export) -> None:
    for graph, content in graphs_of(frame_export, clip_export):
        session = OnnxGraph(graph.component, content, threads=1)
        feeds = random_feeds(graph, 8)
        alone = [session.run({name: value[row : row + 1] for name, value in feeds.items()}) for row in range(8)]
        for batch in (1, 2, 3, 8):
            together = session.run({name: value[:batch] for name, value in feeds.items()})
            assert list(together) == [spec.name for spec in graph.outputs]
            for name, value in together.items():
                expected = np.concatenate([row[name] for row in alone[:batch]])
                np.testing.assert_allclose(value, expected, atol=tolerances.KERNELS)


def test_steps_of_one_video_in_a_batch_answer_as_one_by_one(frame_export: Export) -> None:
    videos, steps = 2, 3
    for graph, content in graphs_of(frame_export):
        assert looks_ahead(graph)
        session = OnnxGraph(graph.component, content, threads=1)
        assert session.looks_ahead
        state = "policy_state" if graph.component == "glance" else "pooled_state"
        feeds = random_feeds(graph, videos * steps)
        begin = feeds.pop(state)[:videos]
        together = session.run(feeds | {state: begin})
        for number in range(steps):
            rows = slice(number * videos, (number + 1) * videos)
            alone = session.run({name: value[rows] for name, value in feeds.items()} | {state: begin})
            for name, value in alone.items():
                np.testing.assert_allclose(together[name][rows], value, atol=tolerances.KERNELS)
            begin = alone[f"next_{state}"]


def test_files_say_what_the_manifest_says(frame_export: Export, clip_export: Export) -> None:
    for graph, content in graphs_of(frame_export, clip_export):
        proto = onnx.load_from_string(content)
        onnx.checker.check_model(proto, full_check=True)
        check_file(graph.component, proto, Signature(graph.inputs, graph.outputs))
        assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_files_name_no_source_line(frame_export: Export) -> None:
    for _, content in graphs_of(frame_export):
        assert b"graphs.py" not in content
        assert b"stack_trace" not in content


def test_equal_weights_make_equal_files(frame_export: Export, frame_network: AdaFocus) -> None:
    assert to_onnx(served_graphs(frame_network)[1]) == frame_export.files["focus.onnx"]


def frozen_batch(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2


def other_name(proto: onnx.ModelProto) -> None:
    proto.graph.output[0].name = "scores"


def other_type(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def unknown_type(proto: onnx.ModelProto) -> None:
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING


def other_opset(proto: onnx.ModelProto) -> None:
    proto.opset_import[0].version = 22


def newer_layout(proto: onnx.ModelProto) -> None:
    proto.ir_version = 99


def weights_outside(proto: onnx.ModelProto) -> None:
    proto.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (frozen_batch, r"inputs are frames uint8 \[2, 64, 64, 3\].* expected frames uint8 \['batch', 64, 64, 3\]"),
        (other_name, r"outputs are scores float32 \['batch', 5\]"),
        (other_type, r"inputs are frames float32"),
        (unknown_type, r"frames: has ONNX type 8"),
        (other_opset, r"operator sets \{'': 22\}, expected only 18"),
        (newer_layout, r"IR version is 99, not at most 10"),
        (weights_outside, r"keeps weights outside itself"),
    ],
)
def test_a_file_that_breaks_the_promise_is_refused(
    frame_export: Export, damage: Callable[[onnx.ModelProto], None], message: str
) -> None:
    focus = frame_export.manifest.graph("focus", "onnx", "fp32")
    proto = onnx.load_from_string(frame_export.files["focus.onnx"])
    damage(proto)
    with pytest.raises(ExportError, match=message):
        check_file("focus", proto, Signature(focus.inputs, focus.outputs))

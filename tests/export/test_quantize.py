from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx
import pytest

from adafocus.bundle.signature import Signature
from adafocus.export.artefact import Feeds, OnnxGraph
from adafocus.export.calibration_set import Recorder
from adafocus.export.errors import ExportError
from adafocus.export.example_frames import texture
from adafocus.export.exporter import Export
from adafocus.export.graph_runs import run_videos
from adafocus.export.graphs import served_graphs
from adafocus.export.quantize import Layer, layers_of, quantize, sensitivity
from adafocus.model.adafocus import AdaFocus
from tests import tolerances
from tests.export.models import FRAME
from tests.model.factory import frame_model
from tests.once import Once


@pytest.fixture(scope="module")
def content(frame_network: AdaFocus, once: Once) -> dict[str, bytes]:
    """Both graphs in fp32, as they are quantised."""
    return {graph.component: once.to_onnx(graph) for graph in served_graphs(frame_network, by_rows=True)}


@pytest.fixture(scope="module")
def feeds(frame_export: Export) -> dict[str, list[Feeds]]:
    """Inputs of both graphs on two moving textures."""
    glance, focus = (
        Recorder(OnnxGraph(graph.component, frame_export.files[graph.file], threads=1))
        for graph in frame_export.manifest.graphs
    )
    run_videos("frame", glance, focus, [texture(4, 64, seed) for seed in range(2)], 4)
    return {"glance": glance.feeds, "focus": focus.feeds}


@pytest.fixture(scope="module")
def signatures(frame_network: AdaFocus) -> dict[str, Signature]:
    return {graph.component: graph.signature() for graph in served_graphs(frame_network)}


def outputs(component: str, content: bytes, feeds: Sequence[Feeds]) -> dict[str, np.ndarray]:
    graph = OnnxGraph(component, content, threads=1)
    ran = [graph.run(feed) for feed in feeds]
    return {name: np.concatenate([output[name] for output in ran]) for name in ran[0]}


def test_normalising_by_rows_changes_nothing(
    frame_export: Export, content: dict[str, bytes], feeds: dict[str, list[Feeds]]
) -> None:
    planes = outputs("glance", frame_export.files["glance.onnx"], feeds["glance"])
    for name, rows in outputs("glance", content["glance"], feeds["glance"]).items():
        np.testing.assert_allclose(rows, planes[name], atol=tolerances.KERNELS)


def test_layers_are_convolutions_with_what_follows_them(content: dict[str, bytes]) -> None:
    layers = layers_of(content["focus"])
    assert layers[0].name == "focus.stem"
    assert [name.startswith("focus.") for name in (layer.name for layer in layers)] == [True] * len(layers)
    nodes = [node for layer in layers for node in layer.nodes]
    kinds = {node.name: node.op_type for node in onnx.load_from_string(content["focus"]).graph.node}
    assert len(nodes) == len(set(nodes))
    assert {kinds[node] for node in nodes} == {"Conv", "Relu", "Add", "MaxPool"}
    # The additions of pixels, corners and gates are none of the networks' body.
    assert sum(kind == "Add" for kind in kinds.values()) > sum(kinds[node] == "Add" for node in nodes) > 0


@pytest.mark.parametrize("component", ["glance", "focus"])
def test_an_int8_graph_answers_nearly_as_fp32(
    signatures: dict[str, Signature], content: dict[str, bytes], feeds: dict[str, list[Feeds]], component: str
) -> None:
    layers = layers_of(content[component])
    made = quantize(content[component], signatures[component], feeds[component], layers)
    assert made == quantize(content[component], signatures[component], feeds[component], layers)
    wanted = outputs(component, content[component], feeds[component])
    for name, found in outputs(component, made, feeds[component]).items():
        assert np.sqrt(np.mean((found - wanted[name]) ** 2)) <= tolerances.INT8_SPREAD_RMS * wanted[name].std() + 1e-3
    weights = {tensor.name: tensor for tensor in onnx.load_from_string(made).graph.initializer}
    stem = next(tensor for name, tensor in weights.items() if name.endswith("stem.conv.weight_quantized"))
    assert stem.data_type == onnx.TensorProto.INT8
    assert list(weights[stem.name.replace("_quantized", "_scale")].dims) == [stem.dims[0]]  # one scale per channel


def test_layers_that_are_kept_stay_in_fp32(
    signatures: dict[str, Signature], content: dict[str, bytes], feeds: dict[str, list[Feeds]]
) -> None:
    _, *layers = layers_of(content["focus"])
    made = quantize(content["focus"], signatures["focus"], feeds["focus"], layers)
    names = {tensor.name for tensor in onnx.load_from_string(made).graph.initializer}
    assert any(name.endswith("stem.conv.weight") for name in names)
    assert not any(name.endswith("stem.conv.weight_quantized") for name in names)


def test_every_layers_suffering_is_measured(
    signatures: dict[str, Signature], content: dict[str, bytes], feeds: dict[str, list[Feeds]]
) -> None:
    found = sensitivity(content["focus"], signatures["focus"], feeds["focus"][:2], "focus")
    assert list(found) == [layer.name for layer in layers_of(content["focus"])]
    assert all(0 < value < 1 for value in found.values())


def test_what_cannot_be_quantised_is_one_line(signatures: dict[str, Signature], content: dict[str, bytes]) -> None:
    with pytest.raises(ExportError, match="the graph cannot be quantised") as raised:
        quantize(content["focus"], signatures["focus"], [], [Layer("focus.stem", ("no such node",))])
    assert "\n" not in str(raised.value)


def test_the_recurrences_product_is_quantised_in_its_loop(once: Once) -> None:
    """With a state wide enough to be worth it."""
    model = frame_model(replace(FRAME, policy_hidden=192))
    glance = served_graphs(model, by_rows=True)[0]
    content = once.to_onnx(glance)
    layer = next(layer for layer in layers_of(content) if layer.name == "policy.recurrence.from_state")
    random = np.random.default_rng(0)
    state = np.tanh(random.normal(size=(3, 192))).astype(np.float32)
    feeds = [{"frames": texture(3, 64), "policy_state": state}]
    made = quantize(content, glance.signature(), feeds, [layer])
    assert len(made) < len(content) - 3 * 192 * 192 * 2.5  # four bytes a weight have become one
    onnx.checker.check_model(onnx.load_from_string(made), full_check=True)
    wanted, found = (outputs("glance", graph, feeds) for graph in (content, made))
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=tolerances.INT8_WEIGHTS)
    assert np.abs(found["next_policy_state"] - wanted["next_policy_state"]).max() > 0
    ahead = OnnxGraph("glance", made, threads=1).run({"frames": texture(3, 64), "policy_state": state[:1]})
    np.testing.assert_allclose(ahead["next_policy_state"][0], found["next_policy_state"][0], atol=1e-5)

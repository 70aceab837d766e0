from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper, numpy_helper

from adafocus.bundle.onnx_runtime import ort
from adafocus.export.errors import ExportError
from adafocus.export.stored_weights import SMALLEST_IN_8_BITS, StoredAs, quantised, store_weights

WEIGHTS = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6),
    elements=st.floats(-1e6, 1e6, width=32),
)


@given(WEIGHTS, st.integers(0, 1))
def test_a_stored_weight_is_off_by_at_most_half_a_step(weight: npt.NDArray[np.float32], axis: int) -> None:
    stored, scale = quantised(weight, axis)
    assert stored.dtype == np.int8 and stored.shape == weight.shape
    assert scale.shape == tuple(size if index == axis else 1 for index, size in enumerate(weight.shape))
    off = np.abs(stored.astype(np.float64) * scale - weight)
    assert (off <= scale.astype(np.float64) * 0.5001 + 1e-37).all()
    assert (stored[weight == 0] == 0).all()


def layers(conv: npt.NDArray[np.float32], linear: npt.NDArray[np.float32], *, transposed: bool) -> bytes:
    """A convolution of 1 × 1, and a linear layer over its channels."""
    spatial = helper.make_node("GlobalAveragePool", ["mixed"], ["mean"])
    nodes = [
        helper.make_node("Conv", ["x", "conv.weight"], ["mixed"]),
        spatial,
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "linear.weight"], ["y"], transB=int(transposed)),
    ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, conv.shape[1], 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, None])],
        [numpy_helper.from_array(conv, "conv.weight"), numpy_helper.from_array(linear, "linear.weight")],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()  # fmt: skip


def run(content: bytes, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


@pytest.mark.parametrize("transposed", [False, True])
def test_the_graph_computes_with_the_widened_weights(transposed: bool) -> None:
    random = np.random.default_rng(3)
    conv = random.normal(size=(256, 256, 1, 1)).astype(np.float32)
    linear = random.normal(size=(288, 256) if transposed else (256, 288)).astype(np.float32)
    x = random.normal(size=(1, 256, 2, 2)).astype(np.float32)
    content = layers(conv, linear, transposed=transposed)
    smaller = store_weights(content, "int8")
    assert len(smaller) < len(content) / 3

    def rounded(weight: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
        stored, scale = quantised(weight, axis)
        return stored.astype(np.float32) * scale

    wanted = run(layers(rounded(conv, 0), rounded(linear, 0 if transposed else 1), transposed=transposed), x)
    np.testing.assert_allclose(run(smaller, x), wanted, rtol=1e-5, atol=1e-5)
    assert store_weights(smaller, "int8") == smaller


def types(content: bytes) -> dict[str, int]:
    return {tensor.name: tensor.data_type for tensor in onnx.load_from_string(content).graph.initializer}


def test_a_tensor_is_stored_as_its_size_permits() -> None:
    few_each = np.ones((SMALLEST_IN_8_BITS, 9, 1, 1), dtype=np.float32)
    found = types(
        store_weights(layers(few_each, np.ones((SMALLEST_IN_8_BITS, 1), np.float32), transposed=False), "int8")
    )
    assert found["conv.weight.stored"] == TensorProto.FLOAT16
    assert found["linear.weight.stored"] == TensorProto.INT8
    assert found["linear.weight.scale"] == TensorProto.FLOAT
    small = layers(np.ones((8, 8, 1, 1), np.float32), np.ones((8, 2), np.float32), transposed=False)
    assert store_weights(small, "int8") == small


def test_halves_are_widened_to_what_they_are() -> None:
    random = np.random.default_rng(4)
    conv, linear = (random.normal(size=size).astype(np.float32) for size in ((256, 256, 1, 1), (256, 288)))
    x = random.normal(size=(1, 256, 2, 2)).astype(np.float32)
    halved = (weight.astype(np.float16).astype(np.float32) for weight in (conv, linear))
    wanted = run(layers(*halved, transposed=False), x)
    found = run(store_weights(layers(conv, linear, transposed=False), "float16"), x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("value", "stored_as", "message"),
    [(np.nan, "int8", "not a finite number"), (np.inf, "float16", "not a finite number"), (1e5, "float16", "65504")],
)
def test_a_weight_that_cannot_be_stored_is_refused(value: float, stored_as: StoredAs, message: str) -> None:
    conv = np.full((256, 256, 1, 1), value, dtype=np.float32)
    with pytest.raises(ExportError, match=rf"conv\.weight: a weight .*{message}"):
        store_weights(layers(conv, np.ones((256, 2), dtype=np.float32), transposed=False), stored_as)

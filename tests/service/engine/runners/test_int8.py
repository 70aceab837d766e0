"""int8 graphs give the numbers that they define on every processor, with 8-bit dot products and without."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from adafocus.bundle import instructions
from adafocus.bundle.instructions import PRECISE_INT8
from adafocus.bundle.onnx_runtime import ort
from adafocus.bundle.store import Bundle
from adafocus.export.artefact import OnnxGraph
from adafocus.service.engine.runners.onnx import exact_options
from adafocus.service.engine.runners.openvino import compile_options, ov
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from tests import tolerances

SIDE = 64
STEP = np.float32(1 / 64)


@pytest.fixture(params=["this processor", "without dot products"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whose instructions the code believes to have."""
    name: str = request.param
    if name == "without dot products":
        monkeypatch.setattr(instructions, "features", lambda _: frozenset({"avx2"}))
    return name


def quantised_graph(kind: str) -> bytes:
    """A convolution or a product whose weights and inputs are so large that sums of two products need 17 bits."""
    weights = np.full((SIDE, SIDE, 1, 1) if kind == "Conv" else (SIDE, SIDE), 127, np.int8)
    weights[:, ::4] = 90
    shape = [1, SIDE, 8, 8] if kind == "Conv" else [8, SIDE]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["rounded"]),
        helper.make_node("DequantizeLinear", ["rounded", "step", "zero"], ["input"]),
        helper.make_node("DequantizeLinear", ["weights", "steps", "zeros"], ["weight"], axis=0),
        helper.make_node(kind, ["input", "weight"], ["z"], **({} if kind == "Conv" else {"transB": 1})),
        helper.make_node("QuantizeLinear", ["z", "wide", "zero"], ["z_rounded"]),
        helper.make_node("DequantizeLinear", ["z_rounded", "wide", "zero"], ["y"]),
    ]
    constants = {
        "step": STEP,
        "zero": np.uint8(0),
        "weights": weights,
        "steps": np.full(SIDE, STEP),
        "zeros": np.zeros(SIDE, np.int8),
        "wide": np.float32(4),
    }
    graph = helper.make_graph(
        nodes,
        "saturates",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def large_inputs(kind: str) -> np.ndarray:
    """Near the upper end of the inputs' range."""
    shape = (1, SIDE, 8, 8) if kind == "Conv" else (8, SIDE)
    return np.random.default_rng(0).uniform(3, 4, shape).astype(np.float32)


def as_defined(content: bytes, inputs: np.ndarray) -> np.ndarray:
    """What the graph says: every operator by itself, in fp32."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": inputs})
    return np.asarray(found)


def in_onnx_runtime(content: bytes, inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(content, exact_options(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": inputs})
    return np.asarray(found)


def in_export(content: bytes, inputs: np.ndarray) -> np.ndarray:
    return OnnxGraph("focus", content, threads=1).run({"x": inputs})["y"]


def in_openvino(content: bytes, inputs: np.ndarray) -> np.ndarray:
    core = ov.Core()
    compiled = core.compile_model(core.read_model(content), "CPU", compile_options(1, "int8"))
    (found,) = compiled([inputs]).values()
    return np.asarray(found)


@pytest.mark.parametrize("kind", ["Conv", "Gemm"])
@pytest.mark.parametrize("run", [in_onnx_runtime, in_export, in_openvino])
def test_large_products_are_not_clipped(
    run: Callable[[bytes, np.ndarray], np.ndarray], kind: str, processor: str
) -> None:
    content, inputs = quantised_graph(kind), large_inputs(kind)
    np.testing.assert_allclose(
        run(content, inputs), as_defined(content, inputs), rtol=tolerances.ADDITION_ORDER_RELATIVE
    )


class Sessions:
    """Every ONNX Runtime session that is opened, by the value of its entry for precise int8."""

    def __init__(self, open_session: Callable[..., Any]) -> None:
        self.open_session = open_session
        self.entries: list[str | None] = []

    def __call__(self, model: object, options: ort.SessionOptions, **others: object) -> Any:
        try:
            self.entries.append(options.get_session_config_entry(PRECISE_INT8))
        except RuntimeError:  # ONNX Runtime's answer to an entry that is not set
            self.entries.append(None)
        return self.open_session(model, options, **others)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sessions]:
    recorded = Sessions(ort.InferenceSession)
    monkeypatch.setattr(ort, "InferenceSession", recorded)
    return recorded


@pytest.mark.parametrize(("flags", "entry"), [({"avx2"}, "1"), (set(), "1"), ({"avx512_vnni"}, None)])
def test_every_session_of_an_int8_graph_has_the_entry_where_it_is_needed(
    flags: set[str],
    entry: str | None,
    frame_bundle: Bundle,
    sessions: Sessions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(instructions, "features", lambda _: frozenset(flags))
    for cache in (None, tmp_path):
        open_runner(frame_bundle, RunnerOptions(1, (1,), "onnxruntime-cpu", "int8", cache)).close()
    graph = frame_bundle.manifest.graph("focus", "onnx", "int8")
    OnnxGraph("focus", frame_bundle.file(graph).read_bytes(), threads=1)
    # Two graphs without a cache, two that are prepared and opened from it, and one that export verifies.
    assert sessions.entries == [entry] * 7


def test_a_cache_made_without_the_entry_is_not_used(
    frame_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = RunnerOptions(1, (1,), "onnxruntime-cpu", "int8", tmp_path)
    folders = []
    for flags in ({"avx2", "avx512_vnni"}, {"avx2"}):
        monkeypatch.setattr(instructions, "features", lambda _, flags=flags: frozenset(flags))
        open_runner(frame_bundle, options).close()
        folders.append(set(tmp_path.iterdir()))
    assert len(folders[0]) == 2
    assert len(folders[1]) == 4


def test_no_session_is_opened_without_the_entries(project_root: Path) -> None:
    """Whoever makes `SessionOptions` adds what `onnx_session_entries` says, in the same function."""
    bare = []
    for file in (path for room in ("service", "export") for path in sorted((project_root / room).rglob("*.py"))):
        for function in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef):
                text = ast.unparse(function)
                if "SessionOptions()" in text and "onnx_session_entries()" not in text:
                    bare.append(f"{file.name}: {function.name}")
    assert bare == []

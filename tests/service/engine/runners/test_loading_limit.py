"""Loading a model that is small as a file and large as a program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from adafocus.service.cores import make_runner
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.runners.loading_limit import LEAST_BYTES, most_loading_bytes
from adafocus.service.settings import Settings
from tests.e2e import tiny


def with_a_constant(content: bytes, floats: int) -> bytes:
    """The graph with a constant of so many numbers in it, which takes 60 bytes of the file."""
    model = onnx.load_from_string(content)
    graph = model.graph
    graph.initializer.append(numpy_helper.from_array(np.array([floats], dtype=np.int64), "huge_shape"))
    last = next(node for node in graph.node if "patch_centre" in node.output)
    last.output[0] = "centre_before"
    graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]),
            helper.make_node("ReduceMax", ["huge"], ["nothing_at_all"], keepdims=0),
            helper.make_node("Add", ["centre_before", "nothing_at_all"], ["patch_centre"]),
        ]
    )
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("backend", ["onnxruntime-cpu", "openvino"])
def test_a_constant_of_gigabytes_is_refused_and_a_small_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    honest = tiny._glance(tiny.CROP)
    for floats, fits in ((1000, True), (LEAST_BYTES // 2, False)):
        monkeypatch.setattr(tiny, "_glance", lambda crop, floats=floats: with_a_constant(honest, floats))
        folder = tmp_path / f"{floats}"
        folder.mkdir()
        bundle = tiny.write_tiny_bundle(folder / "tiny")
        settings = Settings(bundle=bundle.path, backend=backend)
        if fits:
            runner = make_runner(bundle, settings)
            runner.warm_up()
            runner.close()
            continue
        most = most_loading_bytes(bundle.manifest.graphs)
        with pytest.raises(RunnerError, match=f"more than {most} bytes of memory"):
            make_runner(bundle, settings).warm_up()

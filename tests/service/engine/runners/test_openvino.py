"""What OpenVINO must not do: round where a patch lies, or speak to its makers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from adafocus.bundle.store import Bundle
from adafocus.export.example_frames import texture
from adafocus.export.graphs import PixelNorm, cut_patches
from adafocus.service.engine.runners.openvino import PATCHES, halve_tables, ov, split_at_patches
from tests import tolerances


def test_a_focus_graph_is_parted_where_its_patches_are_cut(frame_bundle: Bundle) -> None:
    manifest = frame_bundle.manifest
    core = ov.Core()
    crop, rest = split_at_patches(core.read_model(str(frame_bundle.file(manifest.graph("focus", "onnx", "fp32")))))
    assert {value.get_any_name() for value in crop.inputs} == {"frames", "patch_centre"}
    # Of the patch centre only how many there are: the rows.
    given = {value.get_any_name() for value in rest.inputs} - {"patch_centre"}
    assert given == {PATCHES, "glance_feature", "pooled_state", "step"}
    frames = texture(3, manifest.geometry.crop)
    centres = np.array([[0.123, 0.987], [1, 0], [0.5001, 0.4999]], np.float32)
    compiled = core.compile_model(crop, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled({"frames": frames, "patch_centre": centres}).values()
    wanted = PixelNorm()(cut_patches(torch.from_numpy(frames), torch.from_numpy(centres), manifest.patch_size))
    np.testing.assert_allclose(found, wanted.numpy(), atol=tolerances.KERNELS)


def test_a_clip_models_focus_is_parted_too(clip_bundle: Bundle) -> None:
    graph = clip_bundle.manifest.graph("focus", "onnx", "fp32")
    crop, rest = split_at_patches(ov.Core().read_model(str(clip_bundle.file(graph))))
    assert {value.get_any_name() for value in crop.inputs} == {"frames", "patch_centre"}
    assert {value.get_any_name() for value in rest.inputs} == {PATCHES, "glance_feature"}


def table_lookup(table: np.ndarray) -> ov.Model:
    """Rows of a table, each times a vector, as a step's head is applied."""
    step = ov.opset13.parameter([-1], ov.Type.i64, "step")
    vector = ov.opset13.parameter([-1, table.shape[2], 1], ov.Type.f32, "vector")
    rows = ov.opset13.gather(ov.opset13.constant(table), step, ov.opset13.constant(np.int64(0)))
    return ov.Model([ov.opset13.matmul(rows, vector, False, False)], [step, vector])


def test_a_table_is_kept_halved_and_rounded_to_nearest() -> None:
    """The numbers outlive the arrays that they were made from: those of a table of megabytes are given back at once."""
    random = np.random.default_rng(0)
    table = random.normal(size=(8, 64, 4096)).astype(np.float32)
    model = table_lookup(table)
    assert halve_tables(model) == 1
    others = [random.normal(size=table.shape) for _ in range(8)]
    steps, vectors = np.arange(8), random.normal(size=(8, 4096, 1)).astype(np.float32)
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled([steps, vectors]).values()
    wanted = torch.from_numpy(table).bfloat16().float() @ torch.from_numpy(vectors)
    np.testing.assert_allclose(found, wanted.numpy(), **tolerances.BF16_TABLE)
    assert len(others) == 8


def test_a_small_table_stays_as_it_is() -> None:
    assert halve_tables(table_lookup(np.ones((2, 4, 8), np.float32))) == 0


def test_nothing_is_told_to_anybody(project_root: Path, tmp_path: Path) -> None:
    code = "import sys, service.engine.runners.openvino; print(sys.modules['openvino_telemetry'])"
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=project_root, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "None\n"
    assert list(tmp_path.iterdir()) == []

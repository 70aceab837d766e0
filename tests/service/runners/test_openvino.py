"""What OpenVINO's bfloat16 must not touch: where a patch lies."""

from __future__ import annotations

import numpy as np
import openvino as ov
import torch

from bundle.store import Bundle
from export.frames import texture
from export.graphs import PixelNorm, cut_patches
from service.engine.runners.openvino import PATCHES, split_at_patches

PATCH_TOLERANCE = 1e-4


def test_a_focus_graph_is_parted_where_its_patches_are_cut(frame_bundle: Bundle) -> None:
    manifest = frame_bundle.manifest
    core = ov.Core()
    crop, rest = split_at_patches(core.read_model(str(frame_bundle.file(manifest.graph("focus", "onnx", "fp32")))))
    assert {value.get_any_name() for value in crop.inputs} == {"frames", "patch_centre"}
    assert {value.get_any_name() for value in rest.inputs} == {PATCHES, "glance_feature", "pooled_state", "step"}
    frames = texture(3, manifest.geometry.crop)
    centres = np.array([[0.123, 0.987], [1, 0], [0.5001, 0.4999]], np.float32)
    compiled = core.compile_model(crop, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (found,) = compiled({"frames": frames, "patch_centre": centres}).values()
    wanted = PixelNorm()(cut_patches(torch.from_numpy(frames), torch.from_numpy(centres), manifest.patch_size))
    np.testing.assert_allclose(found, wanted.numpy(), atol=PATCH_TOLERANCE)


def test_a_clip_models_focus_is_parted_too(clip_bundle: Bundle) -> None:
    graph = clip_bundle.manifest.graph("focus", "onnx", "fp32")
    crop, rest = split_at_patches(ov.Core().read_model(str(clip_bundle.file(graph))))
    assert {value.get_any_name() for value in crop.inputs} == {"frames", "patch_centre"}
    assert {value.get_any_name() for value in rest.inputs} == {PATCHES, "glance_feature"}

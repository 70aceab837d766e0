"""A model with a heatmap and the mean over frames goes the whole way: checkpoint, ONNX, TorchScript, int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from adafocus.bundle.manifest import FrameGeometry
from adafocus.export.exporter import Request, export
from adafocus.export.precision import reduce
from adafocus.model.checkpoint import save_checkpoint
from adafocus.model.config import BackboneConfig
from tests.export.test_precision import GENEROUS, quantization_context
from tests.model.factory import SMALL_FRAME, frame_model

CONFIG = replace(
    SMALL_FRAME,
    policy="heatmap",
    pooling="mean",
    glance=BackboneConfig("mobilenet_v2", width=0.125, depth=(1, 1, 1, 1, 1), input_size=32, shrink="area"),
    focus=BackboneConfig("mobilenet_v2", width=0.125, depth=(1, 1, 1, 1, 1, 1, 1), input_size=64),
)


def test_a_heatmap_model_is_exported_verified_and_quantised(tmp_path: Path) -> None:
    model = frame_model(CONFIG)
    save_checkpoint(tmp_path / "model.pt", model, geometry={"resize": 64, "crop": 64, "fit": "letterbox"})
    made = export(Request(tmp_path / "model.pt", "toy", formats=("onnx", "torchscript")))
    assert set(made.agreements) == {"onnx", "torchscript"}
    assert made.manifest.geometry == FrameGeometry(resize=64, crop=64, fit="letterbox")
    assert made.manifest.graph("glance", "onnx", "fp32").width("policy_state") == 1
    files, _ = reduce(quantization_context(made, model, CONFIG.steps), "int8", GENEROUS)
    assert len(files) == 2 and all(files)

"""A backbone with padding of its own goes the whole way: checkpoint, ONNX, TorchScript, int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx

from adafocus.export.exporter import Request, export
from adafocus.export.precision import reduce
from adafocus.model.checkpoint import save_checkpoint
from adafocus.model.config import BackboneConfig
from tests.export.test_precision import GENEROUS, quantization_context
from tests.model.factory import SMALL_CLIP, SMALL_FRAME, clip_model, frame_model

LITE0 = BackboneConfig("efficientnet_lite0", width=0.125, depth=(1, 1, 1, 1, 1, 2, 1))
FRAME = replace(SMALL_FRAME, glance=replace(LITE0, input_size=48), focus=LITE0)
CLIP = replace(SMALL_CLIP, glance=LITE0, focus=LITE0)


def test_a_frame_model_of_efficientnet_lite0_is_exported_verified_and_quantised(tmp_path: Path) -> None:
    model = frame_model(FRAME)
    save_checkpoint(tmp_path / "model.pt", model)
    made = export(Request(tmp_path / "model.pt", "toy", formats=("onnx", "torchscript")))
    assert set(made.agreements) == {"onnx", "torchscript"}
    for name in ("glance.onnx", "focus.onnx"):  # the padding is the convolutions' own
        assert not any(node.op_type == "Pad" for node in onnx.load_from_string(made.files[name]).graph.node)
    files, _ = reduce(quantization_context(made, model, FRAME.steps), "int8", GENEROUS)
    assert len(files[0]) < len(made.files["glance.onnx"])


def test_a_clip_model_of_efficientnet_lite0_is_exported_and_verified(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "model.pt", clip_model(CLIP))
    assert export(Request(tmp_path / "model.pt", "toy")).manifest.kind == "clip"

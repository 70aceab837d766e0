"""A complete bundle whose graphs are a few ONNX operators, and clips of which one knows the answer beforehand.

The model knows three classes, dark, grey and bright. Its confidence grows with every step: the probability of the
class that a mid-range brightness names is 0.58, 0.79, 0.91 and 0.96 after steps 1 to 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from onnx import TensorProto, helper

from adafocus.bundle.manifest import FrameGeometry, Graph, OperatingPoint, TensorSpec
from adafocus.bundle.signature import Signature, Widths, frame_signature
from adafocus.bundle.store import Bundle, write_bundle
from tests.bundle.factory import make_manifest

LABELS = ("dark", "grey", "bright")
BRIGHTNESS = {"dark": 30, "grey": 128, "bright": 225}
CROP = 32
POINTS = tuple(
    OperatingPoint(name=name, thresholds=(threshold,) * 3 + (None,), expected_gflops=0.005 * steps)
    for name, threshold, steps in (("full", None, 4), ("accurate", 0.88, 3), ("balanced", 0.75, 2), ("fast", 0.5, 1))
)
"""On a grey clip ``accurate`` leaves after step 3, ``balanced`` after 2, ``fast`` after 1."""

WIDTHS = Widths(glance_feature=1, policy_state=1, pooled_state=1)

_TYPES = {"uint8": TensorProto.UINT8, "int64": TensorProto.INT64, "float32": TensorProto.FLOAT}


def write_tiny_bundle(folder: Path, *, crop: int = CROP, **changes: Any) -> Bundle:
    """Write the bundle, for frames of ``crop`` pixels; ``changes`` replace fields of its manifest."""
    files = {"glance.onnx": _glance(crop), "focus.onnx": _focus(crop)}
    graphs = (_graph("glance", files["glance.onnx"], crop), _graph("focus", files["focus.onnx"], crop))
    if crop != CROP:
        changes = {"geometry": FrameGeometry(resize=crop + 4, crop=crop), **changes}
    fields = {"labels": LABELS, "graphs": graphs, "operating_points": POINTS, "default_point": "balanced", **changes}
    return write_bundle(folder, make_manifest(**fields), files)


def write_clip(
    path: Path, label: str = "grey", *, seconds: float = 1.0, fps: int = 10, size: tuple[int, int] = (64, 48)
) -> Path:
    """Write an MP4 of one brightness throughout."""
    return write_parts(path, [(label, seconds)], fps=fps, size=size)


def write_parts(
    path: Path,
    parts: Sequence[tuple[str, float]],
    *,
    fps: int = 10,
    size: tuple[int, int] = (64, 48),
    options: dict[str, str] | None = None,
    codec: str = "mpeg4",
) -> Path:
    """Write a video of parts one after the other, each of one brightness and so many seconds; ``options`` are the
    muxer's. There is a key frame at least every 12 frames."""
    width, height = size
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.codec_context.gop_size = 12
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for label, seconds in parts:
            pixels = np.full((height, width, 3), BRIGHTNESS[label], dtype=np.uint8)
            for _ in range(round(seconds * fps)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def _graph(component: Literal["glance", "focus"], content: bytes, crop: int) -> Graph:
    signature = _signature(component, crop)
    return Graph(
        component=component,
        format="onnx",
        precision="fp32",
        file=f"{component}.onnx",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        inputs=signature.inputs,
        outputs=signature.outputs,
    )


def _signature(component: Literal["glance", "focus"], crop: int) -> Signature:
    return frame_signature(component, crop, len(LABELS), WIDTHS)


def _glance(crop: int) -> bytes:
    """Feature: the mean brightness; patch centre: the middle; policy state: counts steps."""
    nodes = [
        helper.make_node("Cast", ["frames"], ["as_float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["as_float", "picture_axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last_axis"], ["glance_feature"]),
        helper.make_node("Mul", ["glance_feature", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "middle"], ["patch_centre"]),
        helper.make_node("Add", ["policy_state", "one"], ["next_policy_state"]),
    ]
    constants = {
        "picture_axes": np.array([1, 2, 3]),
        "last_axis": np.array([1]),
        "zero": np.float32([0]),
        "middle": np.float32([[0.5, 0.5]]),
        "one": np.float32([1]),
    }
    return _model("glance", nodes, constants, crop)


def _focus(crop: int) -> bytes:
    """Logit of a class: minus the distance of the brightest mean from it, times the number of the step."""
    nodes = [
        helper.make_node("Max", ["pooled_state", "glance_feature"], ["next_pooled_state"]),
        helper.make_node("Mul", ["next_pooled_state", "classes_per_level"], ["place"]),
        helper.make_node("Sub", ["place", "centres"], ["offset"]),
        helper.make_node("Abs", ["offset"], ["distance"]),
        helper.make_node("Cast", ["step"], ["step_as_float"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["step_as_float", "last_axis"], ["step_column"]),
        helper.make_node("Add", ["step_column", "one"], ["steps_done"]),
        helper.make_node("Mul", ["distance", "steps_done"], ["doubt"]),
        helper.make_node("Neg", ["doubt"], ["logits"]),
    ]
    constants = {
        "classes_per_level": np.float32([len(LABELS) / 256]),
        "centres": np.float32([[0.5, 1.5, 2.5]]),
        "last_axis": np.array([1]),
        "one": np.float32([1]),
    }
    return _model("focus", nodes, constants, crop)


def _model(component: Literal["glance", "focus"], nodes: Sequence[Any], constants: dict[str, Any], crop: int) -> bytes:
    signature = _signature(component, crop)
    tensors = [
        helper.make_tensor(name, _TYPES[str(array.dtype)], array.shape, array.ravel())
        for name, array in constants.items()
    ]
    inputs, outputs = _values(signature.inputs), _values(signature.outputs)
    graph = helper.make_graph(nodes, component, inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return bytes(model.SerializeToString())


def _values(specs: Sequence[TensorSpec]) -> list[Any]:
    return [helper.make_tensor_value_info(spec.name, _TYPES[spec.dtype], spec.shape) for spec in specs]

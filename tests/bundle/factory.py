"""A small but complete bundle, made without a model: the graph files hold plain bytes."""

from __future__ import annotations

import hashlib
from typing import Any

from adafocus.bundle.manifest import (
    Flops,
    FrameGeometry,
    Graph,
    Manifest,
    OperatingPoint,
    Provenance,
    Sampling,
)
from adafocus.bundle.signature import Widths, clip_signature, frame_signature

CONTENT = {"glance.onnx": b"the glance graph", "focus.onnx": b"the focus graph, a little longer"}


def make_graph(
    component: str,
    *,
    kind: str = "frame",
    crop: int = 32,
    classes: int = 3,
    frames: int = 4,
    glance_exit: bool = False,
) -> Graph:
    name = f"{component}.onnx"
    assert component in {"glance", "focus"}
    side = "glance" if component == "glance" else "focus"
    signature = (
        frame_signature(
            side, crop, classes, Widths(glance_feature=8, policy_state=6, pooled_state=10), glance_exit=glance_exit
        )
        if kind == "frame"
        else clip_signature(side, frames, crop, classes, glance_exit=glance_exit)
    )
    return Graph(
        component=side,
        format="onnx",
        precision="fp32",
        file=name,
        sha256=hashlib.sha256(CONTENT[name]).hexdigest(),
        bytes=len(CONTENT[name]),
        inputs=signature.inputs,
        outputs=signature.outputs,
    )


def make_manifest(**changes: Any) -> Manifest:
    """A frame model's manifest of four steps and three classes; ``changes`` replace whole fields."""
    fields: dict[str, Any] = {
        "name": "toy",
        "version": "1.0",
        "licence": "Apache-2.0",
        "kind": "frame",
        "labels": ("up", "down", "still"),
        "steps": 4,
        "geometry": FrameGeometry(resize=36, crop=32),
        "sampling": Sampling(frames=4, order=(1, 0, 3, 2)),
        "patch_size": 16,
        "flops": Flops(glance=1_000_000, focus=4_000_000, paper_per_step=5_100_000, convention="multiply-adds"),
        "operating_points": (
            OperatingPoint(name="full", thresholds=(None,) * 4, expected_gflops=0.02, expected_accuracy=0.9),
            OperatingPoint(
                name="balanced",
                thresholds=(0.9, 0.8, None, None),
                expected_gflops=0.011,
                expected_accuracy=0.88,
                exit_shares=(0.3, 0.3, 0.0, 0.4),
            ),
        ),
        "default_point": "balanced",
        "graphs": (make_graph("glance"), make_graph("focus")),
        "provenance": Provenance(data="toy clips"),
    }
    return Manifest(**{**fields, **changes})


def make_clip_manifest(**changes: Any) -> Manifest:
    """A clip model's manifest: one step, four glance frames, six focus frames."""
    return make_manifest(
        **{
            "kind": "clip",
            "steps": 1,
            "sampling": Sampling(frames=4, focus_frames=6, order=(0, 1, 2, 3)),
            "operating_points": (OperatingPoint(name="full", thresholds=(None,), expected_gflops=0.005),),
            "default_point": "full",
            "graphs": (make_graph("glance", kind="clip"), make_graph("focus", kind="clip", frames=6)),
            **changes,
        }
    )

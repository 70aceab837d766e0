"""Bundles whose glance graph also gives the logits of its auxiliary head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from adafocus.bundle.manifest import FULL, Manifest, OperatingPoint
from adafocus.bundle.signature import GLANCE_LOGITS, exits_after_glance
from adafocus.bundle.store import load_bundle, write_bundle
from adafocus.export.calibration import Calibration
from adafocus.export.exporter import Export, Request, export

POINT = {"thresholds": (0.9, 0.8, 0.7, None), "expected_gflops": 0.01, "expected_accuracy": 0.9}


def calibration(steps: int, glance: tuple[float | None, ...]) -> Calibration:
    full = OperatingPoint(name=FULL, thresholds=(None,) * steps, expected_gflops=1.0)
    early = OperatingPoint(name="early", thresholds=(None,) * steps, glance_thresholds=glance, expected_gflops=0.1)
    return Calibration(
        temperature=1.5,
        glance_temperatures=(2.0,) * steps,
        criterion="max_softmax",
        points=(full, early),
        default="early",
    )


@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_the_head_is_exported_verified_and_counted(
    kind: str, tmp_path: Path, checkpoints: Path, request: pytest.FixtureRequest
) -> None:
    plain: Export = request.getfixturevalue(f"{kind}_export")
    formats = ("onnx", "torchscript") if kind == "frame" else ("onnx",)
    made = export(Request(checkpoints / f"{kind}.pt", "toy", formats=formats, glance_exit=True))
    glances = [graph for graph in made.manifest.graphs if graph.component == "glance"]
    assert all(map(exits_after_glance, glances))
    assert {graph.width(GLANCE_LOGITS) for graph in glances} == {len(made.manifest.labels)}
    head = next(part for part in made.manifest.flops.parts if part.name == "glance auxiliary head")
    assert (head.component, head.flops > 0) == ("glance", True)
    assert made.manifest.flops.glance == plain.manifest.flops.glance + head.flops
    assert made.manifest.flops.paper_per_step == plain.manifest.flops.paper_per_step
    write_bundle(tmp_path / "toy", made.manifest, made.files)
    assert load_bundle(tmp_path / "toy").manifest == made.manifest


def test_a_calibration_with_exits_after_the_glance_exports_the_head(tmp_path: Path, checkpoints: Path) -> None:
    steps = 4
    file = tmp_path / "calibration.json"
    file.write_text(calibration(steps, (0.95, None, None, None)).model_dump_json())
    made = export(Request(checkpoints / "frame.pt", "toy", calibration=file))
    assert made.manifest.glance_threshold_row("early")[0] == 0.95
    assert made.manifest.glance_exit_rule.temperatures == (2.0,) * steps
    file.write_text(calibration(steps, (None,) * steps).model_dump_json())
    assert not exits_after_glance(export(Request(checkpoints / "frame.pt", "toy", calibration=file)).manifest.graphs[0])


def test_a_bundle_without_the_head_has_no_exit_after_the_glance(frame_export: Export) -> None:
    fields = frame_export.manifest.model_dump()
    fields["operating_points"] += ({"name": "early", **POINT, "glance_thresholds": (0.9, None, None, None)},)
    with pytest.raises(ValueError, match="exits after the glance, but a glance graph has no glance_logits"):
        Manifest.model_validate(fields)
    fields["operating_points"][-1]["glance_thresholds"] = (0.9,)
    with pytest.raises(ValueError, match="needs 4 glance_thresholds, got 1"):
        Manifest.model_validate(fields)


def test_the_way_of_sampling_is_that_of_the_calibration(tmp_path: Path, checkpoints: Path) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(calibration(4, (None,) * 4).model_copy(update={"snap": "keyframe"}).model_dump_json())
    asked = Request(checkpoints / "frame.pt", "toy", calibration=file)
    assert export(asked).manifest.sampling.snap == "keyframe"
    assert export(replace(asked, calibration=None, snap="keyframe")).manifest.sampling.snap == "keyframe"
    assert export(replace(asked, calibration=None)).manifest.sampling.snap == "none"
    with pytest.raises(ValueError, match="calibration was made with snap keyframe, got none"):
        export(replace(asked, snap="none"))

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from adafocus.bundle.guarantee import Guarantee
from adafocus.bundle.manifest import FrameGeometry, OperatingPoint, Sampling
from adafocus.bundle.signature import check_signatures
from adafocus.cli.inspect import _operating_points
from adafocus.export.calibration import Calibration, read_calibration
from adafocus.export.describe import class_names, describe, read_labels
from adafocus.export.errors import ExportError
from adafocus.model import PUBLISHED, build
from adafocus.model.adafocus import AdaFocus
from tests.export.conftest import METADATA

CALIBRATION = {
    "temperature": 1.7,
    "criterion": "max_softmax",
    "points": [
        {
            "name": "balanced",
            "thresholds": [0.9, None, 0.7, None],
            "expected_gflops": 0.001,
            "expected_accuracy": 0.8,
            "exit_shares": [0.5, 0.0, 0.25, 0.25],
        }
    ],
    "default": "balanced",
    "clips": 40,
    "notes": "fold 0",
}


def write_json(folder: Path, content: object) -> Path:
    path = folder / "calibration.json"
    path.write_text(json.dumps(content))
    return path


def toy(network: AdaFocus, **changes: object) -> object:
    fields = {"name": "toy", "version": "1", "licence": "MIT", "metadata": METADATA}
    return describe(network, **{**fields, **changes})  # type: ignore[arg-type]


def test_the_checkpoint_says_what_the_manifest_says(frame_network: AdaFocus) -> None:
    manifest = describe(frame_network, name="toy", version="1", licence="MIT", metadata=METADATA)
    check_signatures(manifest)
    assert manifest.labels == ("one", "two", "three", "four", "five")
    assert manifest.geometry == FrameGeometry(resize=72, crop=64)
    assert manifest.sampling == Sampling(frames=4, first_frame=3, order=(1, 0, 3, 2))
    assert (manifest.provenance.data, manifest.provenance.seed) == ("toy clips", 7)
    assert [point.name for point in manifest.operating_points] == ["full"]
    assert manifest.point("full").expected_gflops == pytest.approx(manifest.flops_full / 1e9)


@pytest.mark.parametrize("protocol", ["holdout", "paper"])
def test_the_manifest_says_which_clips_thresholds_were_solved_on(
    frame_network: AdaFocus, tmp_path: Path, protocol: str
) -> None:
    calibration = read_calibration(write_json(tmp_path, {**CALIBRATION, "protocol": protocol}))
    manifest = describe(
        frame_network, name="toy", version="1", licence="MIT", metadata=METADATA, calibration=calibration
    )
    assert manifest.calibration_protocol == protocol
    said = "thresholds were solved on the training clips, as published" in "\n".join(_operating_points(manifest))
    assert said == (protocol == "paper")
    assert describe(frame_network, name="t", version="1", licence="MIT", metadata={}).calibration_protocol is None
    with pytest.raises(ExportError, match="protocol"):
        read_calibration(write_json(tmp_path, {**CALIBRATION, "protocol": "hope"}))


def test_the_papers_defaults_stand_in_for_what_a_checkpoint_does_not_say(frame_network: AdaFocus) -> None:
    manifest = describe(frame_network, name="toy", version="1", licence="MIT", metadata={})
    assert manifest.labels == ("class_000", "class_001", "class_002", "class_003", "class_004")
    assert manifest.geometry == FrameGeometry(resize=73, crop=64)
    assert manifest.sampling.first_frame == 0
    assert class_names(1001)[-1] == "class_1000"


def test_calibration_becomes_operating_points(tmp_path: Path, frame_network: AdaFocus) -> None:
    calibration = read_calibration(write_json(tmp_path, CALIBRATION))
    manifest = describe(
        frame_network, name="toy", version="1", licence="MIT", metadata=METADATA, calibration=calibration
    )
    assert [point.name for point in manifest.operating_points] == ["full", "balanced"]
    assert (manifest.default_point, manifest.temperature) == ("balanced", 1.7)
    assert manifest.point("balanced").exit_shares == (0.5, 0.0, 0.25, 0.25)
    assert manifest.provenance.notes == "exit thresholds solved on 40 videos (fold 0)"
    assert manifest.provenance.data == "toy clips"


GUARANTEE = {"risk": "answer_changed", "epsilon": 0.05, "confidence": 0.95, "clips": 70, "failures": 0, "method": "m"}


def test_temperatures_and_guarantees_reach_the_manifest(tmp_path: Path, frame_network: AdaFocus) -> None:
    points = [point | {"guarantee": GUARANTEE} for point in CALIBRATION["points"]]
    given = CALIBRATION | {"points": points, "temperatures": [1.0, 1.1, 1.2, 1.3]}
    manifest = describe(
        frame_network,
        name="toy",
        version="1",
        licence="MIT",
        metadata=METADATA,
        calibration=read_calibration(write_json(tmp_path, given)),
    )
    assert manifest.exit_rule.temperatures == (1.0, 1.1, 1.2, 1.3)
    assert manifest.point("balanced").guarantee == Guarantee(**GUARANTEE)
    assert manifest.point("full").guarantee is None


def test_a_guarantee_belongs_to_the_checkpoint_that_was_tested(tmp_path: Path) -> None:
    (tmp_path / "tested.pt").write_bytes(b"weights")
    (tmp_path / "other.pt").write_bytes(b"other weights")
    tested = hashlib.sha256(b"weights").hexdigest()
    points = [point | {"guarantee": GUARANTEE} for point in CALIBRATION["points"]]
    certified = read_calibration(write_json(tmp_path, CALIBRATION | {"points": points, "checkpoint": tested}))
    certified.require_checkpoint(tmp_path / "tested.pt")
    with pytest.raises(ExportError, match="belong to another checkpoint"):
        certified.require_checkpoint(tmp_path / "other.pt")
    with pytest.raises(ExportError, match="cannot be read"):
        certified.require_checkpoint(tmp_path / "absent.pt")
    nothing_promised = read_calibration(write_json(tmp_path, CALIBRATION | {"checkpoint": tested}))
    nothing_promised.require_checkpoint(tmp_path / "other.pt")


def test_a_calibration_that_states_full_is_believed(frame_network: AdaFocus) -> None:
    full = OperatingPoint(name="full", thresholds=(None,) * 4, expected_gflops=1, expected_accuracy=0.9)
    calibration = Calibration(temperature=1, criterion="max_logit", points=(full,), default="full")
    manifest = describe(
        frame_network, name="toy", version="1", licence="MIT", metadata=METADATA, calibration=calibration
    )
    assert manifest.point("full").expected_accuracy == 0.9
    assert manifest.exit_criterion == "max_logit"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "b")}, "there are 2 labels; the model has 5 classes"),
        ({"labels": ("a", "b", "c", "d", "a")}, "labels must be distinct"),
        ({"name": "no/slash"}, "name: String should match pattern"),
        ({"metadata": {"geometry": {"resize": 256, "crop": 224}}}, "a crop of 224; the model's frames have 64 pixels"),
        ({"metadata": {"geometry": {"resize": 3, "crop": 64}}}, "resize: Input should be greater"),
        (
            {"calibration": Calibration.model_validate({**CALIBRATION, "default": "fast"})},
            "operating point 'fast' is missing; there are full, balanced",
        ),
    ],
)
def test_what_does_not_fit_is_named(frame_network: AdaFocus, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        toy(frame_network, **changes)


def test_labels_are_read_one_per_line(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("\ufeffgoing up \nzurück\n\n", encoding="utf-8")
    assert read_labels(path) == ("going up", "zurück")
    path.write_text("a\n\nb\n")
    with pytest.raises(ExportError, match="line 2 is empty"):
        read_labels(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ExportError, match="is not UTF-8 text"):
        read_labels(path)
    with pytest.raises(ExportError, match=r"cannot be read \(no such file"):
        read_labels(tmp_path / "gone.txt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({**CALIBRATION, "criterion": "gut feeling"}, "not a calibration file: criterion: Input should be"),
        ({**CALIBRATION, "points": [{"name": "x"}]}, "points.0.thresholds: Field required"),
        ([], "not a calibration file"),
    ],
)
def test_a_calibration_that_is_none_is_named(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        read_calibration(write_json(tmp_path, content))
    with pytest.raises(ExportError, match=r"cannot be read \(no such file"):
        read_calibration(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("name", "paper_video", "paper_step", "served_step"),
    [
        ("actnet_mbv2_p96", 17.6, 1_100_965_410, 1_100_249_984),
        ("actnet_mbv2_p128", 27.0, 1_684_842_018, 1_684_126_592),
        ("actnet_mbv2_p160", 39.0, 2_435_540_514, None),
        ("actnet_res50_p96", 24.8, 1_547_401_154, None),
        ("actnet_res50_p128", 34.1, 2_131_277_762, 2_130_399_232),
        ("actnet_res50_p160", 46.1, 2_881_976_258, None),
        ("sthv1_tsm_p128", 18.5, None, None),
        ("sthv2_tsm_p144", 23.5, None, None),
        ("sthv2_tsm_p160", 27.5, None, None),
        ("sthv1_tsm_p176", 33.7, None, None),
    ],
)
def test_published_models_cost_what_was_published(
    name: str, paper_video: float, paper_step: int | None, served_step: int | None
) -> None:
    with torch.device("meta"):
        model = build(PUBLISHED[name])
    manifest = describe(model, name=name, version="1", licence="MIT", metadata={})
    assert round(manifest.paper_flops_full / 1e9, 1) == paper_video
    assert paper_step in (None, manifest.flops.paper_per_step)
    assert served_step in (None, manifest.flops.per_step)
    assert manifest.geometry == FrameGeometry(resize=256, crop=224)

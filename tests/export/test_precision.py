from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from adafocus.bundle.store import load_bundle, write_bundle
from adafocus.export.accuracy_tradeoff import Bound
from adafocus.export.calibration_set import FEWEST_CLIPS, CalibrationSet, LabelledClips, LabelledVideo, read_material
from adafocus.export.errors import ExportError, LossError, UnavailableError
from adafocus.export.example_frames import texture
from adafocus.export.exporter import Export, Request, export
from adafocus.export.precision import QuantizationContext, reduce
from adafocus.model.adafocus import AdaFocus
from adafocus.model.tsm import AdaFocusTSM
from tests.e2e.tiny import write_clip
from tests.export.conftest import METADATA

GENEROUS = Bound(agreement=0.5, accuracy_lost=1.0)
IMPOSSIBLE = Bound(agreement=1.1)


def quantization_context(made: Export, model: AdaFocus | AdaFocusTSM, frames: int) -> QuantizationContext:
    clips = tuple(texture(frames, 64, seed) for seed in range(8))
    material = CalibrationSet("textures", clips[:3], clips[3:], np.zeros(5, np.int64))
    return QuantizationContext(
        model, made.manifest, (made.files["glance.onnx"], made.files["focus.onnx"]), material, threads=1
    )


@pytest.fixture(scope="module")
def frame_shop(frame_export: Export, frame_network: AdaFocus) -> QuantizationContext:
    return quantization_context(frame_export, frame_network, 4)


@pytest.fixture(scope="module")
def clip_shop(clip_export: Export, clip_network: AdaFocusTSM) -> QuantizationContext:
    return quantization_context(clip_export, clip_network, 7)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_precision_within_its_bound(
    frame_shop: QuantizationContext, clip_shop: QuantizationContext, precision: str
) -> None:
    for context in (frame_shop, clip_shop):
        files, reduced = reduce(context, precision, GENEROUS)  # type: ignore[arg-type]
        assert (reduced.precision, reduced.data, reduced.clips, reduced.kept) == (precision, "textures", 5, ())
        assert len(files[0]) < len(context.fp32[0])
        assert list(reduced.exit_step_shift) == [point.name for point in context.manifest.operating_points]


def test_layers_are_kept_before_a_precision_is_given_up(frame_shop: QuantizationContext) -> None:
    with pytest.raises(
        LossError, match=r"int8 loses too much: on 5 clips of textures it gives fp32's answer for .*loss"
    ):
        reduce(frame_shop, "int8", IMPOSSIBLE)
    _, reduced = reduce(frame_shop, "int8", IMPOSSIBLE, allow_loss=True)
    assert reduced.agreement <= 1


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LabelledClips:
    """Clips of three brightnesses, two classes of them known to the model."""
    folder = tmp_path_factory.mktemp("clips")
    kinds = ("dark", "grey", "bright")
    files = [write_clip(folder / f"{i}.mp4", kinds[i % 3], seconds=0.5 + i / 100, size=(96, 80)) for i in range(48)]
    (folder / "broken.mp4").write_bytes(b"no video")
    videos = [LabelledVideo(file, index % 3, file.name) for index, file in enumerate([*files, folder / "broken.mp4"])]
    return LabelledClips("brightness", tuple(METADATA["labels"]), tuple(videos))


def test_clips_are_spread_and_broken_ones_left_out(frame_export: Export, labelled: LabelledClips) -> None:
    material = read_material(labelled, frame_export.manifest, learned_from=["3.mp4", "4.mp4", "5.mp4"])
    assert len(material.ranges) + len(material.evaluation) == 48
    assert material.labels.tolist() == [index % 3 for index in range(48) if index % 2]
    assert material.name == "brightness (2 of them learned from)"
    assert material.evaluation[0].shape == (4, 64, 64, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("a", "two", "b")}, "brightness has the classes a, b; the model has one, two, three, four, five"),
        ({"videos": ()}, f"has 0 clips that can be read; at least {2 * FEWEST_CLIPS} are needed"),
    ],
)
def test_clips_that_cannot_be_used(
    frame_export: Export, labelled: LabelledClips, changes: dict[str, tuple[str, ...]], message: str
) -> None:
    with pytest.raises(ExportError, match=message):
        read_material(replace(labelled, **changes), frame_export.manifest)  # type: ignore[arg-type]


def test_a_bundle_of_several_precisions(tmp_path: Path, checkpoints: Path, labelled: LabelledClips) -> None:
    request = Request(
        checkpoints / "frame.pt", "toy", precisions=("int8", "fp32", "fp16"), clips=labelled, allow_loss=True
    )
    made = export(request)
    write_bundle(tmp_path / "toy", made.manifest, made.files)
    manifest = load_bundle(tmp_path / "toy").manifest
    assert [graph.precision for graph in manifest.graphs[::2]] == ["fp32", "fp16", "int8"]
    assert [reduced.precision for reduced in manifest.reduced] == ["fp16", "int8"]
    assert [graph.file for graph in manifest.graphs[-2:]] == ["glance.int8.onnx", "focus.int8.onnx"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"precisions": ("int8",), "clips": None},
            "what int8 loses is measured on labelled clips; name some with --data",
        ),
        ({"precisions": ("int8",), "formats": ("torchscript",)}, "torchscript is written in fp32 only"),
        ({"precisions": ("fp32", "int8"), "formats": ("torchscript",)}, "int8 is written as onnx only"),
    ],
)
def test_what_cannot_be_written_together(
    checkpoints: Path, labelled: LabelledClips, changes: dict[str, object], message: str
) -> None:
    request = Request(checkpoints / "frame.pt", "toy", clips=labelled)
    with pytest.raises(UnavailableError, match=message):
        export(replace(request, **changes))  # type: ignore[arg-type]

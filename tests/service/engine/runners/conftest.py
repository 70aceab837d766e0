from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from adafocus.bundle.store import Bundle, load_bundle, write_bundle
from adafocus.export.accuracy_tradeoff import Bound
from adafocus.export.calibration_set import CalibrationSet
from adafocus.export.describe import graph_entry
from adafocus.export.example_frames import frames_per_video, texture
from adafocus.export.exporter import Request, export, load_and_describe
from adafocus.export.graphs import served_graphs
from adafocus.export.precision import QuantizationContext, reduce
from adafocus.model.adafocus import AdaFocus
from adafocus.model.checkpoint import save_checkpoint
from adafocus.model.tsm import AdaFocusTSM
from tests.export.models import CLIP, FRAME
from tests.model.factory import clip_model, frame_model
from tests.once import Once

FORMATS = ("onnx", "torchscript")


@pytest.fixture(scope="session")
def frame_bundle(exports_once: Once) -> Bundle:
    """A small frame model in every format."""
    folder = exports_once.folder("frame-bundle", lambda folder: _write(folder, frame_model(FRAME)))
    return load_bundle(folder / "bundle")


@pytest.fixture(scope="session")
def clip_bundle(exports_once: Once) -> Bundle:
    """A small clip model in every format."""
    folder = exports_once.folder("clip-bundle", lambda folder: _write(folder, clip_model(CLIP)))
    return load_bundle(folder / "bundle")


def _write(folder: Path, network: AdaFocus | AdaFocusTSM) -> None:
    """Export in both formats, and quantise on textures, whatever that loses."""
    checkpoint = folder / "checkpoint.pt"
    save_checkpoint(checkpoint, network)
    request = Request(checkpoint, "toy", formats=FORMATS)
    made = export(request)
    model, manifest, _ = load_and_describe(request)
    clips = tuple(texture(frames_per_video(manifest.sampling), manifest.geometry.crop, seed) for seed in range(4))
    material = CalibrationSet("textures", clips, clips, np.zeros(len(clips), np.int64))
    fp32 = made.files["glance.onnx"], made.files["focus.onnx"]
    files, reduced = reduce(QuantizationContext(model, manifest, fp32, material, threads=1), "int8", Bound(0, 1))
    entries = [
        graph_entry(graph, "onnx", "int8", content) for graph, content in zip(served_graphs(model), files, strict=True)
    ]
    graphs = (*made.manifest.graphs, *entries)
    contents = made.files | {entry.file: content for entry, content in zip(entries, files, strict=True)}
    manifest = made.manifest.model_copy(update={"graphs": graphs, "reduced": (reduced,)})
    write_bundle(folder / "bundle", manifest, contents)

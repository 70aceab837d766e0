"""From a checkpoint file to a verified, ready-to-write bundle. Writing it is ``bundle.store.write_bundle``'s."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bundle.manifest import Manifest
from export.calibration import read_calibration
from export.describe import describe, read_labels
from export.errors import ExportError, UnavailableError
from export.frames import verification_videos
from export.graphs import served_graphs
from export.to_onnx import to_onnx
from export.verify import Agreement, verify
from model.adafocus import AdaFocus
from model.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from model.config import PUBLISHED, ModelConfig
from model.tsm import AdaFocusTSM

FORMATS = ("onnx",)
PRECISIONS = ("fp32",)

DATA_SETS: Mapping[str, str] = {
    "actnet": "ActivityNet v1.3",
    "fcvid": "FCVID",
    "minik": "Mini-Kinetics",
    "sthv1": "Something-Something V1",
    "sthv2": "Something-Something V2",
    "jester": "Jester",
}
"""By the first part of a published configuration's name."""

STAGES = ("checkpoint", "glance graph", "focus graph", "verification")
"""What ``export`` reports as it begins each of them."""


@dataclass(frozen=True)
class Request:
    """What to export, and as what.

    Attributes:
        checkpoint: ours, or one of the authors' released files.
        name, version: the bundle's.
        config: name of a published configuration; needed for the authors' files.
        labels: file with one label per line, in place of the checkpoint's.
        calibration: file that ``adafocus calibrate`` wrote.
        licence: in place of the checkpoint's.
        formats, precisions: of the graphs.
        videos: real videos to verify with, beside noise and texture.
    """

    checkpoint: Path
    name: str
    version: str = "1"
    config: str | None = None
    labels: Path | None = None
    calibration: Path | None = None
    licence: str | None = None
    formats: Sequence[str] = FORMATS
    precisions: Sequence[str] = PRECISIONS
    videos: Sequence[Path] = ()


@dataclass(frozen=True)
class Export:
    """A bundle in memory that has been verified: ``write_bundle(folder, manifest, files)`` makes it a folder."""

    manifest: Manifest
    files: dict[str, bytes]
    agreement: Agreement


def export(request: Request, on_stage: Callable[[str], None] = lambda stage: None) -> Export:
    """Make a bundle in memory and verify it against the torch model. Nothing is written.

    Raises:
        ExportError: it cannot be made, or does not reproduce the torch model; `model.checkpoint.CheckpointError`
            becomes one.
    """
    _check_available("format", request.formats, FORMATS)
    _check_available("precision", request.precisions, PRECISIONS)
    on_stage("checkpoint")
    model, manifest = load_and_describe(request)
    files = {}
    for graph, entry in zip(served_graphs(model), manifest.graphs, strict=True):
        on_stage(f"{graph.component} graph")
        files[entry.file] = to_onnx(graph)
    on_stage("verification")
    glance, focus = (files[entry.file] for entry in manifest.graphs)
    videos = verification_videos(request.videos, manifest.sampling, manifest.geometry)
    agreement = verify(model, glance, focus, videos)
    return Export(_sealed(manifest, files), files, agreement)


def load_and_describe(request: Request) -> tuple[AdaFocus | AdaFocusTSM, Manifest]:
    """The model of a checkpoint, and the manifest its bundle will have but for checksums and sizes.

    Raises:
        ExportError: the checkpoint, the labels or the calibration cannot be used.
    """
    config = _config(request.config)
    labels = read_labels(request.labels) if request.labels else None
    calibration = read_calibration(request.calibration) if request.calibration else None
    try:
        checkpoint = read_checkpoint(request.checkpoint)
        if checkpoint.config is None and config is None:
            raise ExportError(
                f"{request.checkpoint}: does not say which model it is; name it with --config: {', '.join(PUBLISHED)}"
            )
        model = checkpoint.build(config)
    except CheckpointError as error:
        raise ExportError(str(error)) from error
    metadata = dict(checkpoint.metadata)
    if checkpoint.format == "authors":
        metadata["provenance"] = _authors(request.config)
    manifest = describe(
        model,
        name=request.name,
        version=request.version,
        licence=request.licence or _licence(checkpoint),
        metadata=metadata,
        labels=labels,
        calibration=calibration,
    )
    return model, manifest


def _config(name: str | None) -> ModelConfig | None:
    if name is None or name in PUBLISHED:
        return PUBLISHED.get(name) if name else None
    near = difflib.get_close_matches(name, PUBLISHED, n=3) or list(PUBLISHED)
    raise ExportError(f"there is no configuration {name!r}; did you mean {' or '.join(near)}?")


def _authors(config: str | None) -> dict[str, str]:
    """What is known of a released file."""
    data_set = (config or "").partition("_")[0]
    return {
        "data": DATA_SETS.get(data_set, "not stated by the checkpoint"),
        "data_source": "https://github.com/LeapLabTHU/AdaFocusV2",
        "recipe": f"{config}: a checkpoint in the format that the authors of AdaFocusV2 release",
    }


def _licence(checkpoint: Checkpoint) -> str:
    stated = checkpoint.metadata.get("licence")
    if stated:
        return str(stated)
    if checkpoint.format == "authors":
        return "as the authors of AdaFocusV2 release their weights"
    return "not stated by the checkpoint"


def _check_available(what: str, wanted: Sequence[str], available: Sequence[str]) -> None:
    for value in wanted:
        if value not in available:
            raise UnavailableError(f"{what} {value!r} is not available; this version writes {', '.join(available)}")


def _sealed(manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    graphs = tuple(
        graph.model_copy(
            update={"bytes": len(files[graph.file]), "sha256": hashlib.sha256(files[graph.file]).hexdigest()}
        )
        for graph in manifest.graphs
    )
    return manifest.model_copy(update={"graphs": graphs})

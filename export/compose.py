"""From a checkpoint file to a verified, ready-to-write bundle. Writing it is ``bundle.store.write_bundle``'s."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from bundle.manifest import GraphFormat, Manifest, Precision
from export.artefact import load_artefact
from export.calibration import read_calibration
from export.describe import describe, read_labels
from export.errors import ExportError, UnavailableError
from export.frames import verification_videos
from export.graphs import ServedGraph, served_graphs
from export.to_onnx import to_onnx
from export.to_torchscript import movable_cut, to_torchscript
from export.verify import Agreement, verify
from model.adafocus import AdaFocus
from model.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from model.config import PUBLISHED, ModelConfig
from model.tsm import AdaFocusTSM

FORMATS: tuple[GraphFormat, ...] = ("onnx", "torchscript")
PRECISIONS: tuple[Precision, ...] = ("fp32",)

_Name = TypeVar("_Name", bound=str)

DATA_SETS: Mapping[str, str] = {
    "actnet": "ActivityNet v1.3",
    "fcvid": "FCVID",
    "minik": "Mini-Kinetics",
    "sthv1": "Something-Something V1",
    "sthv2": "Something-Something V2",
    "jester": "Jester",
}
"""By the first part of a published configuration's name."""


def stages(formats: Sequence[str]) -> tuple[str, ...]:
    """What ``export`` reports as it begins each of them."""
    return ("checkpoint", *(f"{fmt} {part}" for fmt in formats for part in ("glance", "focus", "verification")))


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
    formats: Sequence[str] = ("onnx",)
    precisions: Sequence[str] = PRECISIONS
    videos: Sequence[Path] = ()


@dataclass(frozen=True)
class Export:
    """A bundle in memory that has been verified: ``write_bundle(folder, manifest, files)`` makes it a folder."""

    manifest: Manifest
    files: dict[str, bytes]
    agreements: Mapping[GraphFormat, Agreement]


def export(request: Request, on_stage: Callable[[str], None] = lambda stage: None) -> Export:
    """Make a bundle in memory and verify it against the torch model. Nothing is written.

    Raises:
        ExportError: it cannot be made, or does not reproduce the torch model; `model.checkpoint.CheckpointError`
            becomes one.
    """
    on_stage("checkpoint")
    model, manifest = load_and_describe(request)
    videos = verification_videos(request.videos, manifest.sampling, manifest.geometry)
    files: dict[str, bytes] = {}
    agreements: dict[GraphFormat, Agreement] = {}
    for fmt in dict.fromkeys(graph.format for graph in manifest.graphs):
        entries = [graph for graph in manifest.graphs if graph.format == fmt]
        for graph, entry in zip(_graphs(model, fmt), entries, strict=True):
            on_stage(f"{fmt} {entry.component}")
            files[entry.file] = to_onnx(graph) if fmt == "onnx" else to_torchscript(graph)
        on_stage(f"{fmt} verification")
        glance, focus = (load_artefact(entry, files[entry.file]) for entry in entries)
        agreements[fmt] = verify(model, glance, focus, videos)
    return Export(_sealed(manifest, files), files, agreements)


def _graphs(model: AdaFocus | AdaFocusTSM, fmt: GraphFormat) -> tuple[ServedGraph, ServedGraph]:
    return served_graphs(model, movable_cut()) if fmt == "torchscript" else served_graphs(model)


def load_and_describe(request: Request) -> tuple[AdaFocus | AdaFocusTSM, Manifest]:
    """The model of a checkpoint, and the manifest its bundle will have but for checksums and sizes.

    Raises:
        UnavailableError: there is no such format or precision.
        ExportError: the checkpoint, the labels or the calibration cannot be used.
    """
    formats = _available("format", request.formats, FORMATS)
    _available("precision", request.precisions, PRECISIONS)
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
        formats=formats,
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


def _available(what: str, wanted: Sequence[str], available: Sequence[_Name]) -> tuple[_Name, ...]:
    """The wanted ones, each once, in the order in which a manifest lists them."""
    for value in wanted:
        if value not in available:
            raise UnavailableError(f"{what} {value!r} is not available; this version writes {', '.join(available)}")
    return tuple(value for value in available if value in wanted)


def _sealed(manifest: Manifest, files: dict[str, bytes]) -> Manifest:
    graphs = tuple(
        graph.model_copy(
            update={"bytes": len(files[graph.file]), "sha256": hashlib.sha256(files[graph.file]).hexdigest()}
        )
        for graph in manifest.graphs
    )
    return manifest.model_copy(update={"graphs": graphs})

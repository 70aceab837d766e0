"""Makes a verified bundle in memory from a checkpoint file; ``bundle.store.write_bundle`` writes it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import torch

from adafocus.bundle.manifest import Graph, GraphFormat, Manifest, Precision
from adafocus.bundle.signature import exits_after_glance
from adafocus.export.accuracy_tradeoff import Bound
from adafocus.export.artefact import load_artefact
from adafocus.export.calibration import read_calibration
from adafocus.export.calibration_set import LabelledClips, read_material
from adafocus.export.choices import FORMATS, PRECISIONS
from adafocus.export.describe import describe, graph_entry, read_labels
from adafocus.export.errors import ExportError, UnavailableError
from adafocus.export.example_frames import UInt8, verification_videos
from adafocus.export.graph_runs import Answers
from adafocus.export.graphs import ServedGraph, graphs_in, served_graphs
from adafocus.export.precision import Files, QuantizationContext, reduce
from adafocus.export.to_onnx import to_onnx
from adafocus.export.to_torchscript import movable_cut, to_torchscript
from adafocus.export.verify import Agreement, torch_answers, verify
from adafocus.model.checkpoint import Checkpoint, read_checkpoint
from adafocus.model.config import PUBLISHED, ModelConfig
from adafocus.model.video_model import VideoModel
from adafocus.model.weight_files import CheckpointError
from adafocus.video.sampler import Snap

BOUND = Bound()
"""Accuracy and agreement that a reduced precision may lose."""

_Kind = tuple[GraphFormat, Precision]
_Pair = tuple[ServedGraph, ServedGraph]
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


def stages(formats: Sequence[str], precisions: Sequence[str] = ("fp32",)) -> tuple[str, ...]:
    """Names of the stages that ``export`` reports, in their order."""
    reduced = [precision for precision in precisions if precision != "fp32"]
    made = [f"{fmt} {part}" for fmt in formats for part in ("glance", "focus", "verification")]
    return ("checkpoint", *made, *(["clips"] if reduced else []), *reduced)


@dataclass(frozen=True)
class Request:
    """A request to export a checkpoint.

    Attributes:
        checkpoint: ours, or one of the authors' released files.
        name, version: the bundle's.
        config: name of a published configuration; needed for the authors' files.
        labels: file with one label per line, in place of the checkpoint's.
        calibration: file that ``adafocus calibrate`` wrote.
        licence: in place of the checkpoint's.
        formats, precisions: of the graphs; every precision but fp32 is ONNX and needs ``clips``.
        videos: real videos to verify with, beside noise and texture.
        clips: labelled videos to measure on what a precision loses.
        snap: in place of what the calibration or the checkpoint states: whether sampled frames move to key frames.
        glance_exit: let the glance graphs give the logits of their auxiliary head, whether or not a point uses them.
        allow_loss: write a precision that loses more than its bound.
    """

    checkpoint: Path
    name: str
    version: str = "1"
    config: str | None = None
    labels: Path | None = None
    calibration: Path | None = None
    licence: str | None = None
    formats: Sequence[str] = ("onnx",)
    precisions: Sequence[str] = ("fp32",)
    videos: Sequence[Path] = ()
    clips: LabelledClips | None = None
    snap: Snap | None = None
    glance_exit: bool = False
    allow_loss: bool = False


@dataclass(frozen=True)
class Export:
    """A bundle in memory that has been verified: ``write_bundle(folder, manifest, files)`` makes it a folder."""

    manifest: Manifest
    files: dict[str, bytes]
    agreements: Mapping[GraphFormat, Agreement]


def export(request: Request, on_stage: Callable[[str], None] = lambda stage: None) -> Export:
    """Make a bundle in memory and verify it against the torch model. Nothing is written.

    Raises:
        UnavailableError: there is no such format or precision, or none of the two together.
        LossError: a precision loses more than its bound.
        ExportError: it cannot be made, or does not reproduce the torch model; `model.weight_files.CheckpointError`
            becomes one.
    """
    wanted = _wanted(request)
    on_stage("checkpoint")
    model, manifest, learned_from = load_and_describe(request)
    videos = verification_videos(request.videos, manifest.sampling, manifest.geometry)
    answers = torch_answers(model, videos)
    made: dict[_Kind, Files] = {}
    agreements: dict[GraphFormat, Agreement] = {}
    # Graphs of a reduced precision are made from the fp32 ones, and measured against them.
    glance_exit = exits_after_glance(manifest.graph("glance", "onnx", "fp32"))
    for fmt in dict.fromkeys(fmt for fmt, _ in wanted):
        pair = _graphs(model, fmt, "fp32", glance_exit)
        made[fmt, "fp32"], agreements[fmt] = _verified(pair, fmt, videos, answers, on_stage)
    reduced = []
    if request.clips is not None and any(precision != "fp32" for _, precision in wanted):
        on_stage("clips")
        material = read_material(request.clips, manifest, learned_from)
        context = QuantizationContext(model, manifest, made["onnx", "fp32"], material, torch.get_num_threads())
        for kind in wanted:
            if kind[1] != "fp32":
                on_stage(kind[1])
                made[kind], traded = reduce(context, kind[1], BOUND, allow_loss=request.allow_loss)
                reduced.append(traded)
    entries = [
        (entry, content)
        for kind in wanted
        for entry, content in _entries(_graphs(model, *kind, glance_exit), kind, made[kind])
    ]
    graphs = tuple(entry for entry, _ in entries)
    manifest = manifest.model_copy(update={"graphs": graphs, "reduced": tuple(reduced)})
    return Export(manifest, {entry.file: content for entry, content in entries}, agreements)


def _wanted(request: Request) -> list[_Kind]:
    """The graphs to write, in the manifest's order."""
    formats = _available("format", request.formats, FORMATS)
    precisions = _available("precision", request.precisions, PRECISIONS)
    kinds = [(fmt, precision) for fmt in formats for precision in precisions if fmt == "onnx" or precision == "fp32"]
    for fmt in formats:
        if fmt not in {kind[0] for kind in kinds}:
            raise UnavailableError(f"{fmt} is written in fp32 only; add it to --precision")
    for precision in precisions:
        if precision not in {kind[1] for kind in kinds}:
            raise UnavailableError(f"{precision} is written as onnx only; add it to --format")
        if precision != "fp32" and request.clips is None:
            raise UnavailableError(f"what {precision} loses is measured on labelled clips; name some with --data")
    return kinds


def _verified(
    graphs: _Pair, fmt: GraphFormat, videos: Sequence[UInt8], answers: Answers, on_stage: Callable[[str], None]
) -> tuple[Files, Agreement]:
    """Both graphs in fp32, compared with the answers of the torch model."""
    contents, artefacts = [], []
    for graph in graphs:
        on_stage(f"{fmt} {graph.component}")
        contents.append(to_onnx(graph) if fmt == "onnx" else to_torchscript(graph))
        artefacts.append(load_artefact(graph_entry(graph, fmt, "fp32", contents[-1]), contents[-1]))
    on_stage(f"{fmt} verification")
    return (contents[0], contents[1]), verify(graphs[0].model, artefacts[0], artefacts[1], videos, answers)


def _graphs(model: VideoModel, fmt: GraphFormat, precision: Precision, glance_exit: bool) -> _Pair:
    """A trace has no loop of variable length, and keeps the devices of its constants."""
    if fmt == "torchscript":
        return served_graphs(model, movable_cut(), look_ahead=False, glance_exit=glance_exit)
    return graphs_in(model, precision, glance_exit=glance_exit)


def _entries(graphs: _Pair, kind: _Kind, files: Files) -> Iterator[tuple[Graph, bytes]]:
    for graph, content in zip(graphs, files, strict=True):
        yield graph_entry(graph, *kind, content), content


class Loaded(NamedTuple):
    """The model of a checkpoint, the manifest its bundle will have but for its graphs, and the clips it knows."""

    model: VideoModel
    manifest: Manifest
    learned_from: frozenset[str]


def load_and_describe(request: Request) -> Loaded:
    """Read the checkpoint and the files that describe the model.

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
    if calibration is not None:
        calibration.require_checkpoint(request.checkpoint)
    manifest = describe(
        model,
        name=request.name,
        version=request.version,
        licence=request.licence or _licence(checkpoint),
        metadata=metadata,
        labels=labels,
        calibration=calibration,
        snap=request.snap,
        glance_exit=request.glance_exit,
    )
    return Loaded(model, manifest, frozenset(metadata.get("learned_from", ())))


def _config(name: str | None) -> ModelConfig | None:
    if name is None or name in PUBLISHED:
        return PUBLISHED.get(name) if name else None
    near = difflib.get_close_matches(name, PUBLISHED, n=3) or list(PUBLISHED)
    raise ExportError(f"there is no configuration {name!r}; did you mean {' or '.join(near)}?")


def _authors(config: str | None) -> dict[str, str]:
    """Provenance of a file that the authors released."""
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

"""Builds the manifest of a model that is about to be exported, except for the graph files' checksums."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from adafocus.bundle.manifest import (
    FULL,
    Flops,
    FlopsPart,
    FrameGeometry,
    Graph,
    GraphFormat,
    Manifest,
    OperatingPoint,
    Precision,
    Provenance,
    Sampling,
)
from adafocus.bundle.store import graph_file_name
from adafocus.export.calibration import Calibration, first_problem
from adafocus.export.errors import ExportError, reason
from adafocus.export.graphs import ServedGraph, served_graphs
from adafocus.model.flops import StepFlops, step_flops
from adafocus.model.video_model import VideoModel
from adafocus.video.sampler import Snap, visiting_order

PAPER_RESIZE = 256 / 224
"""Shorter side over crop in the published models."""

_TO_BE_MADE = b"?"


def describe(
    model: VideoModel,
    *,
    name: str,
    version: str,
    licence: str,
    metadata: Mapping[str, Any],
    labels: Sequence[str] | None = None,
    calibration: Calibration | None = None,
    snap: Snap | None = None,
    glance_exit: bool = False,
) -> Manifest:
    """The manifest of a model, with placeholder entries for graphs that are still to be made.

    Args:
        model: its weights may be on the meta device.
        name: the bundle's name.
        version: the bundle's version.
        licence: what may be done with the bundle.
        metadata: of the checkpoint: ``labels``, ``geometry``, ``sampling``, ``provenance``, each of them optional.
        labels: in place of the checkpoint's.
        calibration: without one, ``full`` is the only operating point.
        snap: in place of the calibration's, which comes before the checkpoint's.
        glance_exit: whether the glance graphs give the logits of their auxiliary head; those of a calibration with
            exits after the glance always do.

    Raises:
        ExportError: the labels do not fit the model, or a value is out of range.
    """
    if calibration is not None and calibration.snap is not None:
        if snap not in (None, calibration.snap):
            raise ExportError(
                f"the calibration was made with snap {calibration.snap}, got {snap}; calibrate with --snap {snap}"
            )
        snap = calibration.snap
    glance_exit = glance_exit or (calibration is not None and calibration.exits_after_glance)
    config, flops = model.config, step_flops(model, glance_exit=glance_exit)
    full = OperatingPoint(
        name=FULL, thresholds=(None,) * config.steps, expected_gflops=config.steps * flops.per_step / 1e9
    )
    try:
        return Manifest(
            name=name,
            version=version,
            licence=licence,
            kind=config.kind,
            labels=_labels(labels or metadata.get("labels"), config.num_classes),
            steps=config.steps,
            geometry=_geometry(metadata, config.frame_size),
            sampling=_sampling(model, metadata, snap),
            patch_size=config.patch_size,
            flops=_flops(flops),
            temperature=calibration.temperature if calibration else 1.0,
            temperatures=calibration.temperatures if calibration else None,
            glance_temperatures=calibration.glance_temperatures if calibration else None,
            task="single_label" if calibration is None or calibration.label_thresholds is None else "multi_label",
            label_thresholds=calibration.label_thresholds if calibration else None,
            exit_criterion=calibration.criterion if calibration else "max_softmax",
            operating_points=calibration.operating_points(full) if calibration else (full,),
            default_point=calibration.default if calibration else FULL,
            calibration_protocol=calibration.protocol if calibration else None,
            graphs=tuple(
                graph_entry(graph, "onnx", "fp32", _TO_BE_MADE)
                for graph in served_graphs(model, glance_exit=glance_exit)
            ),
            provenance=_provenance(metadata, calibration),
        )
    except ValidationError as error:
        raise ExportError(f"the model cannot be described: {first_problem(error)}") from error


def class_names(count: int) -> tuple[str, ...]:
    """Default names of classes: ``class_000``, ``class_001`` and so on."""
    digits = max(3, len(str(count - 1)))
    return tuple(f"class_{index:0{digits}d}" for index in range(count))


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels from a text file, one per line; empty lines at the end do not count.

    Raises:
        ExportError: it cannot be read, or a line is empty.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").rstrip().splitlines()
    except OSError as error:
        raise ExportError(f"{path}: cannot be read ({reason(error)})") from error
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: is not UTF-8 text") from error
    labels = tuple(line.strip() for line in lines)
    if "" in labels:
        raise ExportError(f"{path}: line {labels.index('') + 1} is empty; it should name a class")
    return labels


def _labels(labels: Sequence[str] | None, count: int) -> tuple[str, ...]:
    if labels is None:
        return class_names(count)
    if len(labels) != count:
        raise ExportError(f"there are {len(labels)} labels; the model has {count} classes")
    return tuple(labels)


def _geometry(metadata: Mapping[str, Any], frame_size: int) -> FrameGeometry:
    stated = metadata.get("geometry") or {"resize": round(frame_size * PAPER_RESIZE), "crop": frame_size}
    geometry = FrameGeometry.model_validate(stated)
    if geometry.crop != frame_size:
        raise ExportError(
            f"the checkpoint states a crop of {geometry.crop}; the model's frames have {frame_size} pixels"
        )
    return geometry


def _sampling(model: VideoModel, metadata: Mapping[str, Any], snap: Snap | None) -> Sampling:
    sampling, stated = model.config.sampling, metadata.get("sampling") or {}
    return Sampling(
        frames=sampling.frames,
        focus_frames=sampling.focus_frames,
        first_frame=stated.get("first_frame", 0),
        snap=snap or stated.get("snap", "none"),
        order=visiting_order(sampling.frames, sampling.order),
    )


def _flops(count: StepFlops) -> Flops:
    return Flops(
        glance=count.glance,
        focus=count.focus,
        paper_per_step=count.paper_per_step,
        convention=count.convention,
        parts=tuple(FlopsPart(name=part.name, flops=part.flops, component=part.component) for part in count.parts),
    )


def graph_entry(graph: ServedGraph, fmt: GraphFormat, precision: Precision, content: bytes) -> Graph:
    """The manifest's entry for a graph file with that content."""
    signature = graph.signature()
    unnamed = Graph(
        component=graph.component,
        format=fmt,
        precision=precision,
        file="unnamed",
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        inputs=signature.inputs,
        outputs=signature.outputs,
    )
    return unnamed.model_copy(update={"file": graph_file_name(unnamed)})


def _provenance(metadata: Mapping[str, Any], calibration: Calibration | None) -> Provenance:
    stated = dict(metadata.get("provenance") or {"data": "not stated by the checkpoint"})
    if calibration is not None:
        on = f" on {calibration.clips} videos" if calibration.clips else ""
        said = f" ({calibration.notes})" if calibration.notes else ""
        stated["notes"] = "; ".join(filter(None, [stated.get("notes"), f"exit thresholds solved{on}{said}"]))
    return Provenance.model_validate(stated)

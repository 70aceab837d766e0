"""Compresses a bundle: its weights in fewer bits, kept only if the answers on real videos stay what they were."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adafocus.bundle.manifest import FULL, Compressed, Graph, Manifest
from adafocus.bundle.store import Bundle
from adafocus.export.accuracy_tradeoff import Indices, exit_steps
from adafocus.export.artefact import Float32, OnnxGraph
from adafocus.export.calibration_set import CHUNK, step_logits
from adafocus.export.errors import ExportError, LossError
from adafocus.export.example_frames import UInt8, real
from adafocus.export.stored_weights import StoredAs, store_weights

STORED_AS: Mapping[str, StoredAs] = {"glance": "float16", "focus": "int8"}
"""By component. An error of the glance moves the patch, which changes more than an error of the focus does."""

LEAST_AGREEMENT = 0.99
"""Share of the videos whose answer after all steps must be what it was, as for other precisions."""

FEWEST_VIDEOS = 20
"""With fewer videos, a single one would exceed the bound by far."""


@dataclass(frozen=True)
class CompressedBundle:
    """A compressed bundle in memory: ``write_bundle(folder, manifest, files)`` makes it a folder.

    Attributes:
        manifest: with the new checksums and what was measured.
        files: content, or the path of a file that stayed the same, by file name.
        bytes_before, bytes_after: of all graphs.
    """

    manifest: Manifest
    files: dict[str, bytes | Path]
    bytes_before: int
    bytes_after: int


def compress(bundle: Bundle, videos: Iterable[Path], data: str, least: float = LEAST_AGREEMENT) -> CompressedBundle:
    """Store the weights of a bundle's fp32 ONNX graphs as `STORED_AS` says, and compare the answers on videos.

    Graphs of other formats and precisions stay as they are. What was certified of an operating point was certified of
    other weights, so guarantees are dropped.

    Args:
        bundle: verified.
        videos: files; they need no labels. Those that cannot be read are left out.
        data: what the videos are called in the manifest.
        least: share of the videos that must have the same answer after all steps.

    Raises:
        LossError: fewer have it.
        ExportError: there are too few videos, or nothing to compress.
    """
    manifest = bundle.manifest
    pairs = [(graph, _compressed(bundle.file(graph), graph)) for graph in manifest.graphs]
    if not any(isinstance(content, bytes) for _, content in pairs):
        raise ExportError(f"{bundle.path}: has no graph whose weights could be stored in fewer bits")
    contents = {graph.component: content for graph, content in pairs if _is_fp32(graph)}
    before = tuple(
        OnnxGraph(name, bundle.file(manifest.graph(name, "onnx", "fp32")).read_bytes(), 1)
        for name in ("glance", "focus")
    )
    after = tuple(OnnxGraph(name, _bytes(contents[name]), 1) for name in ("glance", "focus"))
    measured = _measure(manifest, (before[0], before[1]), (after[0], after[1]), videos, data)
    if measured.agreement < least:
        raise LossError(
            f"compressed, the bundle gives the same answer for {measured.agreement:.1%} of {measured.clips} videos, "
            f"and {least:.1%} is the least allowed"
        )
    graphs = tuple(_entry(graph, content) for graph, content in pairs)
    points = tuple(point.model_copy(update={"guarantee": None}) for point in manifest.operating_points)
    return CompressedBundle(
        manifest.model_copy(update={"graphs": graphs, "operating_points": points, "compressed": measured}),
        {graph.file: content for graph, content in pairs},
        sum(graph.bytes for graph in manifest.graphs),
        sum(graph.bytes for graph in graphs),
    )


def answers_at_exits(manifest: Manifest, logits: Float32) -> dict[str, Indices]:
    """The answer to each of N videos by operating point, from logits [N, T, C]: the class at the step where it exits.

    Exits after a glance are not taken.
    """
    confidence = manifest.exit_rule.of_all_steps(logits)
    rows = np.arange(len(logits))
    found = {}
    for point in manifest.operating_points:
        steps = exit_steps(confidence, manifest.threshold_row(point.name))
        found[point.name] = np.asarray(logits[rows, steps].argmax(axis=1), dtype=np.int64)
    return found


def _measure(
    manifest: Manifest,
    before: tuple[OnnxGraph, OnnxGraph],
    after: tuple[OnnxGraph, OnnxGraph],
    videos: Iterable[Path],
    data: str,
) -> Compressed:
    """The shares of the videos with the same answer."""
    found = [
        (step_logits(*before, frames, manifest), step_logits(*after, frames, manifest))
        for frames in _in_chunks(manifest, videos)
    ]
    count = sum(len(one) for one, _ in found)
    if count < FEWEST_VIDEOS:
        raise ExportError(f"{data} has {count} videos that can be read; at least {FEWEST_VIDEOS} are needed to compare")
    old, new = (answers_at_exits(manifest, np.concatenate(side)) for side in zip(*found, strict=True))
    shares = {name: float((old[name] == new[name]).mean()) for name in old}
    return Compressed(data=data, clips=count, agreement=shares[FULL], agreement_at_exits=min(shares.values()))


def _in_chunks(manifest: Manifest, videos: Iterable[Path]) -> Iterator[list[UInt8]]:
    """The frames of the videos that can be read, a few videos at a time, because frames are large."""
    chunk: list[UInt8] = []
    for path in videos:
        try:
            chunk.append(real(path, manifest.sampling, manifest.geometry))
        except ExportError:
            continue
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _is_fp32(graph: Graph) -> bool:
    return (graph.format, graph.precision) == ("onnx", "fp32")


def _compressed(path: Path, graph: Graph) -> bytes | Path:
    """The new content of a file, or its path if it stays the same."""
    if not _is_fp32(graph):
        return path
    content = path.read_bytes()
    stored = store_weights(content, STORED_AS[graph.component])
    return path if stored == content else stored


def _bytes(content: bytes | Path) -> bytes:
    return content.read_bytes() if isinstance(content, Path) else content


def _entry(graph: Graph, content: bytes | Path) -> Graph:
    if isinstance(content, Path):
        return graph
    return graph.model_copy(update={"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)})

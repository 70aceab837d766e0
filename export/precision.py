"""Makes graphs in a reduced precision, if they stay within a bound that is measured on labelled clips."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from adafocus.bundle.manifest import Manifest, Precision, Reduced
from adafocus.bundle.signature import exits_after_glance
from adafocus.export.accuracy_tradeoff import Bound, ClipLogits, compare
from adafocus.export.artefact import Feeds, OnnxGraph
from adafocus.export.calibration_set import CalibrationSet, Recorder, step_logits
from adafocus.export.errors import LossError
from adafocus.export.fp16 import to_half
from adafocus.export.graphs import ServedGraph, graphs_in, served_graphs
from adafocus.export.quantize import layers_of, quantize, sensitivity
from adafocus.export.to_onnx import to_onnx
from adafocus.model.video_model import VideoModel

SENSITIVITY_FEEDS = 4
"""Calls that a layer's sensitivity is measured on."""

Files = tuple[bytes, bytes]
"""The glance graph and the focus graph."""


@dataclass(frozen=True)
class QuantizationContext:
    """Everything needed to make graphs of a reduced precision and to measure them.

    Attributes:
        model: in evaluation mode.
        manifest: with fp32's operating points.
        fp32: its graphs as ONNX files.
        material: real frames.
        threads: of a graph run.
    """

    model: VideoModel
    manifest: Manifest
    fp32: Files
    material: CalibrationSet
    threads: int

    @property
    def glance_exit(self) -> bool:
        """Whether the glance graphs give the logits of their auxiliary head."""
        return exits_after_glance(self.manifest.graph("glance", "onnx", "fp32"))

    def load(self, files: Files) -> tuple[OnnxGraph, OnnxGraph]:
        """Both graphs, ready to run."""
        return OnnxGraph("glance", files[0], self.threads), OnnxGraph("focus", files[1], self.threads)

    def logits(self, files: Files) -> ClipLogits:
        """Return their step logits on the clips for evaluation."""
        logits = step_logits(*self.load(files), self.material.evaluation, self.manifest)
        return ClipLogits(logits, self.material.labels, self.material.name)


def reduce(
    context: QuantizationContext, precision: Precision, bound: Bound, *, allow_loss: bool = False
) -> tuple[Files, Reduced]:
    """Make both graphs in a reduced precision and measure the accuracy that it loses.

    If an int8 graph is not within the bound, layers are kept in fp32: the one with the largest error, then the two,
    four, eight with the largest errors, up to half of all.

    Args:
        context: what to make them from.
        precision: ``int8`` or ``fp16``.
        bound: what may be lost.
        allow_loss: take the best there is if none is within the bound.

    Raises:
        LossError: it loses more.
    """
    fp32 = context.logits(context.fp32)
    attempts: list[tuple[Files, Reduced]] = []
    for files, kept in _attempts(context, precision):
        reduced = compare(context.manifest, precision, fp32, context.logits(files).logits, kept)
        attempts.append((files, reduced))
        if bound.holds(reduced):
            return files, reduced
    best = max(attempts, key=lambda attempt: (attempt[1].agreement, attempt[1].accuracy))
    if not allow_loss:
        raise LossError(_lost(best[1], bound))
    return best


@dataclass(frozen=True)
class _Part:
    """One graph to be quantised, and its inputs on real frames."""

    graph: ServedGraph
    content: bytes
    feeds: tuple[Feeds, ...]

    def quantised(self, kept: Collection[str]) -> bytes:
        """The graph with all layers in int8 except some."""
        layers = [layer for layer in layers_of(self.content) if layer.name not in kept]
        return quantize(self.content, self.graph.signature(), self.feeds, layers) if layers else self.content

    def sensitivity(self) -> dict[str, float]:
        """The error that quantising each layer causes, by layer."""
        every = max(1, len(self.feeds) // SENSITIVITY_FEEDS)
        return sensitivity(self.content, self.graph.signature(), self.feeds[::every], self.graph.component)


def _attempts(context: QuantizationContext, precision: Precision) -> Iterator[tuple[Files, tuple[str, ...]]]:
    """Graphs to evaluate, the fastest first, and the layers of them that are kept in fp32."""
    if precision == "fp16":
        glance, focus = (
            to_half(to_onnx(graph), graph.signature())
            for graph in graphs_in(context.model, precision, glance_exit=context.glance_exit)
        )
        yield (glance, focus), ()
        return
    parts = _parts(context)
    yield (parts[0].quantised(()), parts[1].quantised(())), ()
    suffered = parts[0].sensitivity() | parts[1].sensitivity()
    ranked = sorted(suffered, key=suffered.__getitem__, reverse=True)
    count = 1
    while count <= len(ranked) // 2:
        kept = tuple(ranked[:count])
        yield (parts[0].quantised(kept), parts[1].quantised(kept)), kept
        count *= 2


def _parts(context: QuantizationContext) -> tuple[_Part, _Part]:
    recorders = [Recorder(graph) for graph in context.load(context.fp32)]
    step_logits(recorders[0], recorders[1], context.material.ranges, context.manifest)
    glance, focus = (
        _Part(graph, to_onnx(graph), tuple(recorder.feeds))
        for graph, recorder in zip(
            served_graphs(context.model, by_rows=True, glance_exit=context.glance_exit), recorders, strict=True
        )
    )
    return glance, focus


def _lost(reduced: Reduced, bound: Bound) -> str:
    return (
        f"{reduced.precision} loses too much: on {reduced.clips} clips of {reduced.data} it gives fp32's answer for "
        f"{reduced.agreement:.1%} (at least {bound.agreement:.1%}) and the right one for {reduced.accuracy:.1%}, fp32 "
        f"for {reduced.accuracy_fp32:.1%} (at most {bound.accuracy_lost:.1%} lost); --allow-loss writes it all the same"
    )

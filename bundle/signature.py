"""The graphs' signatures: tensor names, types and shapes, the same for every format (docs/bundle-format.md).

They are defined only here: the exporter builds its graphs' specifications from them, and loading checks a manifest
against them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from adafocus.bundle.kinds import ModelKind
from adafocus.bundle.manifest import Graph, Manifest, TensorSpec

BATCH = "batch"
"""The symbolic dimension: the number of frames in one call, each from a different video."""

VIDEOS = "videos"
"""The first dimension of the states in graphs that look ahead. A batch of T·V rows holds T consecutive steps of each of
V videos, ordered by step. With one state per row, rows are independent, as they always are in the other graphs."""


GLANCE_LOGITS = "glance_logits"
"""Optional output of a glance graph: logits of the auxiliary head, from this glance alone."""


class Signature(NamedTuple):
    """Inputs and outputs of one graph, in the order in which the graph declares them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


class Widths(NamedTuple):
    """Sizes that follow from the networks and not from the manifest. A clip model has no states."""

    glance_feature: int
    policy_state: int = 0
    pooled_state: int = 0


def _floats(name: str, *dimensions: int) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=(BATCH, *dimensions))


def _frames(crop: int, *time: int) -> TensorSpec:
    return TensorSpec(name="frames", dtype="uint8", shape=(BATCH, *time, crop, crop, 3))


def _state(name: str, width: int, *, look_ahead: bool) -> TensorSpec:
    return TensorSpec(name=name, dtype="float32", shape=(VIDEOS if look_ahead else BATCH, width))


def looks_ahead(graph: Graph) -> bool:
    """True if a batch may hold several steps of one video."""
    return any(spec.shape[0] == VIDEOS for spec in graph.inputs)


def exits_after_glance(graph: Graph) -> bool:
    """Whether a glance graph also gives the logits of its auxiliary head, which an exit after the glance needs."""
    return any(spec.name == GLANCE_LOGITS for spec in graph.outputs)


def frame_signature(
    component: Literal["glance", "focus"],
    crop: int,
    classes: int,
    widths: Widths,
    *,
    look_ahead: bool = False,
    glance_exit: bool = False,
) -> Signature:
    """Signature of a frame model's graph: one frame per row, states in and out."""
    centre, feature = _floats("patch_centre", 2), _floats("glance_feature", widths.glance_feature)
    if component == "glance":
        return Signature(
            (_frames(crop), _state("policy_state", widths.policy_state, look_ahead=look_ahead)),
            (feature, centre, _floats("next_policy_state", widths.policy_state), *_exit(classes, glance_exit)),
        )
    step = TensorSpec(name="step", dtype="int64", shape=(BATCH,))
    return Signature(
        (_frames(crop), centre, feature, _state("pooled_state", widths.pooled_state, look_ahead=look_ahead), step),
        (_floats("logits", classes), _floats("next_pooled_state", widths.pooled_state)),
    )


def _exit(classes: int, wanted: bool) -> tuple[TensorSpec, ...]:
    return (_floats(GLANCE_LOGITS, classes),) if wanted else ()


def clip_signature(
    component: Literal["glance", "focus"], frames: int, crop: int, classes: int, *, glance_exit: bool = False
) -> Signature:
    """Signature of a clip model's graph: all frames of a clip per row, no state; the glance feature is its logits."""
    centre, feature = _floats("patch_centre", 2), _floats("glance_feature", classes)
    if component == "glance":
        return Signature((_frames(crop, frames),), (feature, centre, *_exit(classes, glance_exit)))
    return Signature((_frames(crop, frames), centre, feature), (_floats("logits", classes),))


def check_signatures(manifest: Manifest) -> None:
    """Check that the graphs' inputs and outputs match the manifest's other fields.

    Raises:
        ValueError: they do not; the message names the graph's file and the tensor, and gives both specifications.
    """
    served = {(graph.format, graph.precision, graph.component): graph for graph in manifest.graphs}
    if len(served) != len(manifest.graphs):
        raise ValueError("two graphs have the same component, format and precision")
    for fmt, precision, _ in served:
        for component in ("glance", "focus"):
            if (fmt, precision, component) not in served:
                raise ValueError(f"there is no {component} graph as {fmt} {precision} beside the other one")
    for (fmt, precision, _), graph in served.items():
        expected = _expected(manifest, graph, served[fmt, precision, "glance"], served[fmt, precision, "focus"])
        _compare(graph.file, "inputs", graph.inputs, expected.inputs)
        _compare(graph.file, "outputs", graph.outputs, expected.outputs)


def _expected(manifest: Manifest, graph: Graph, glance: Graph, focus: Graph) -> Signature:
    return _EXPECTED[manifest.kind](manifest, graph, glance, focus)


def _expected_of_clip(manifest: Manifest, graph: Graph, glance: Graph, focus: Graph) -> Signature:
    sampling = manifest.sampling
    frames = sampling.frames if graph.component == "glance" else sampling.focus_frames
    crop, classes = manifest.geometry.crop, len(manifest.labels)
    return clip_signature(graph.component, frames or 0, crop, classes, glance_exit=exits_after_glance(glance))


def _expected_of_frame(manifest: Manifest, graph: Graph, glance: Graph, focus: Graph) -> Signature:
    crop, classes = manifest.geometry.crop, len(manifest.labels)
    widths = Widths(glance.width("glance_feature"), glance.width("policy_state"), focus.width("pooled_state"))
    ahead, glance_exit = looks_ahead(glance), exits_after_glance(glance)
    return frame_signature(graph.component, crop, classes, widths, look_ahead=ahead, glance_exit=glance_exit)


_EXPECTED: Mapping[ModelKind, Callable[[Manifest, Graph, Graph, Graph], Signature]] = {
    "frame": _expected_of_frame,
    "clip": _expected_of_clip,
}


def _compare(file: str, side: str, found: tuple[TensorSpec, ...], expected: tuple[TensorSpec, ...]) -> None:
    if [spec.name for spec in found] != [spec.name for spec in expected]:
        names, wanted = (", ".join(spec.name for spec in specs) for specs in (found, expected))
        raise ValueError(f"{file}: {side} are {names}, expected {wanted}")
    for spec, want in zip(found, expected, strict=True):
        if spec != want:
            raise ValueError(
                f"{file}: {spec.name} is {spec.dtype} {list(spec.shape)}, expected {want.dtype} {list(want.shape)}"
            )

"""The parts that all runtimes share: picking a bundle's graphs, fixed batch sizes, padding, and the protocol's verbs.

A runtime is reduced to an `Executor`: one file each, named arrays in, named arrays out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from adafocus.bundle.manifest import Graph, GraphFormat, Manifest, Precision
from adafocus.bundle.signature import BATCH, GLANCE_LOGITS, VIDEOS, looks_ahead
from adafocus.service.engine.runners.base import (
    Array,
    Component,
    Float32,
    FocusOutput,
    GlanceOutput,
    Int64,
    RunnerError,
    StateWidths,
    UInt8,
)
from adafocus.service.engine.runners.loading_limit import bounded_loading
from adafocus.service.engine.runners.malloc import return_freed_memory

COMPONENTS: tuple[Component, ...] = ("glance", "focus")

Graphs = Mapping[Component, Graph]


class Executor(Protocol):
    """Both graphs of a bundle, loaded into a runtime. Calls come from one thread at a time.

    An array that is given stays as it is until the next call.
    """

    def run(self, component: Component, feeds: Mapping[str, Array]) -> Mapping[str, Float32]:
        """Outputs by name; they stay as they are when the next call runs.

        Raises:
            RunnerError: the graph failed.
        """

    def close(self) -> None:
        """Give memory and device back."""


class GraphRunner:
    """The two graphs of a bundle behind the runner protocol, at a few fixed batch sizes.

    Args:
        executor: the runtime that has loaded them.
        graphs: what the bundle says of them.
        backend: as in ``--backend``.
        precision: that the graphs are computed in.
        batch_sizes: ascending; a batch is padded with zero rows to the next of them, so that no request meets a
            shape that the runtime has not planned for.
        look_ahead: steps of one video that a batch may hold, if the graphs can; 1: none.
        pad_ahead: pad such a batch, too, with steps after the last, which none before them sees. Else every size up to
            ``look_ahead`` is planned, and padding, which a processor would compute, is saved.
        warm_up_bytes: memory that warming up may take; None: any.
    """

    def __init__(
        self,
        executor: Executor,
        graphs: Graphs,
        *,
        backend: str,
        precision: Precision,
        batch_sizes: Sequence[int],
        look_ahead: int = 1,
        pad_ahead: bool = False,
        warm_up_bytes: int | None = None,
    ) -> None:
        self.backend = backend
        self.precision: Precision = precision
        self.widths = StateWidths(
            policy=graphs["glance"].width("policy_state"), pooled=graphs["focus"].width("pooled_state")
        )
        self.look_ahead = min(look_ahead, batch_sizes[-1]) if all(map(looks_ahead, graphs.values())) else 1
        self._executor = executor
        self._graphs = graphs
        self._inputs = {name: frozenset(spec.name for spec in graph.inputs) for name, graph in graphs.items()}
        self._batch_sizes = tuple(batch_sizes)
        self._pad_ahead = pad_ahead
        self._warm_up_bytes = warm_up_bytes
        self._wholes: list[tuple[Array, Array]] = []

    def padded(self, rows: int) -> int:
        """The smallest planned batch size that holds the rows.

        Raises:
            RunnerError: more rows than the largest planned batch.
        """
        for size in self._batch_sizes:
            if rows <= size:
                return size
        raise RunnerError(f"{rows} rows do not fit the largest batch, {self._batch_sizes[-1]}")

    def glance(self, frames: UInt8, policy_state: Float32) -> GlanceOutput:
        """See :class:`Runner`."""
        outputs = self._run("glance", {"frames": frames, "policy_state": policy_state})
        return GlanceOutput(
            feature=outputs["glance_feature"],
            patch_centre=outputs["patch_centre"],
            policy_state=outputs.get("next_policy_state", policy_state),
            logits=outputs.get(GLANCE_LOGITS),
        )

    def focus(
        self, frames: UInt8, patch_centre: Float32, glance_feature: Float32, pooled_state: Float32, step: Int64
    ) -> FocusOutput:
        """See :class:`Runner`."""
        feeds: dict[str, Array] = {
            "frames": frames,
            "patch_centre": patch_centre,
            "glance_feature": glance_feature,
            "pooled_state": pooled_state,
            "step": step,
        }
        outputs = self._run("focus", feeds)
        return FocusOutput(logits=outputs["logits"], pooled_state=outputs.get("next_pooled_state", pooled_state))

    def warm_up(self) -> None:
        """Run both graphs once at every planned batch size, the largest first: memory then grows only once.

        Raises:
            RunnerError: a graph fails, needs too much memory, or answers with something else than finite numbers.
        """
        with bounded_loading(self._warm_up_bytes):
            self._run_every_size()
        return_freed_memory()

    def _run_every_size(self) -> None:
        sizes = {self.padded(size) if self._pad_ahead else size for size in range(2, self.look_ahead + 1)}
        ahead = [(size, 1) for size in sizes]
        for size, videos in sorted([*ahead, *((size, size) for size in self._batch_sizes)], reverse=True):
            for name, graph in self._graphs.items():
                _check_finite(name, self._run(name, example_feeds(graph, size, videos)))

    def close(self) -> None:
        """Give the device back."""
        self._executor.close()

    def _run(self, component: Component, feeds: Mapping[str, Array]) -> dict[str, Float32]:
        rows = len(feeds["frames"])
        wanted = {key: value for key, value in feeds.items() if key in self._inputs[component]}
        ahead = any(len(value) < rows for value in wanted.values())
        size = rows if ahead and not self._pad_ahead else self.padded(rows)
        padded = {key: self._whole(value, size) if len(value) == rows else value for key, value in wanted.items()}
        outputs = self._executor.run(component, padded)
        cut = {key: value if rows == size else value[:rows] for key, value in outputs.items()}
        self._wholes = [(wanted[key], padded[key]) for key in wanted] + [(cut[key], outputs[key]) for key in cut]
        return cut

    def _whole(self, array: Array, size: int) -> Array:
        """The array with padding: the one that the last call was given with it, or gave, where it is the same.

        So the focus gets the very arrays that the glance had and made, and a device need not be sent them again.
        """
        for known, whole in self._wholes:
            if known is array and len(whole) == size:
                return whole
        return _pad(array, size)


def graphs_of(manifest: Manifest, fmt: GraphFormat, precision: Precision) -> Graphs:
    """Both graphs of that format and precision.

    Raises:
        RunnerError: the bundle holds none, with the command that would make them.
    """
    try:
        return {component: manifest.graph(component, fmt, precision) for component in COMPONENTS}
    except KeyError as error:
        raise RunnerError(
            f"the bundle has no {fmt} graphs in {precision}; "
            f"export it with --format {fmt} --precision {precision}, or choose another backend or precision"
        ) from error


def has_graphs(manifest: Manifest, fmt: GraphFormat, precision: Precision) -> bool:
    """Return True if the bundle holds graphs of that format and precision."""
    return any(graph.format == fmt and graph.precision == precision for graph in manifest.graphs)


def example_feeds(graph: Graph, batch: int, videos: int) -> dict[str, Array]:
    """Zero arrays of a graph's input shapes at a batch size, of so many videos."""
    free = {BATCH: batch, VIDEOS: videos}
    return {
        spec.name: np.zeros([free[size] if isinstance(size, str) else size for size in spec.shape], dtype=spec.dtype)
        for spec in graph.inputs
    }


def batch_sizes_up_to(largest: int) -> tuple[int, ...]:
    """1, 2, 4, … and the largest itself: few shapes to plan, at most half of a batch is padding."""
    sizes = [1]
    while sizes[-1] * 2 < largest:
        sizes.append(sizes[-1] * 2)
    return (*sizes, largest) if largest > 1 else (1,)


def _check_finite(component: Component, outputs: Mapping[str, Float32]) -> None:
    """Check an answer: a damaged model would otherwise be ready, and every later answer be nonsense.

    Raises:
        RunnerError: an output holds NaN or infinity.
    """
    for name, value in outputs.items():
        if not np.isfinite(value).all():
            raise RunnerError(f"the {component} graph gives {name!r} that is not finite; the bundle is damaged")


def _pad(array: Array, size: int) -> Array:
    if len(array) == size:
        return array
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), dtype=array.dtype)])

"""ONNX Runtime behind the runner protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata

import numpy as np
import onnxruntime as ort

from bundle.manifest import Graph, Manifest, Precision
from bundle.store import Bundle
from service.engine.runners.base import (
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

COMPONENTS: tuple[Component, ...] = ("glance", "focus")
PROVIDERS = {"onnxruntime-cpu": "CPUExecutionProvider", "onnxruntime-cuda": "CUDAExecutionProvider"}


class OnnxRunner:
    """The two graphs of a bundle as ONNX Runtime sessions with a few fixed batch sizes.

    Args:
        bundle: a verified bundle with graphs in the ``onnx`` format.
        backend: ``onnxruntime-cpu`` or ``onnxruntime-cuda``.
        threads: intra-op threads of each session.
        batch_sizes: ascending; a batch is padded with zero rows to the next of them, so that no request meets a
            shape that the runtime has not planned for.

    Raises:
        RunnerError: the provider is not there, or both ONNX Runtime packages are installed.
    """

    precision: Precision = "fp32"

    def __init__(self, bundle: Bundle, *, backend: str, threads: int, batch_sizes: Sequence[int]) -> None:
        _one_runtime_only()
        self.backend = backend
        self._batch_sizes = tuple(batch_sizes)
        self._graphs = {name: _graph(bundle.manifest, name) for name in COMPONENTS}
        self._sessions = {
            name: _session(str(bundle.file(graph)), PROVIDERS[backend], threads) for name, graph in self._graphs.items()
        }
        self.widths = StateWidths(
            policy=self._graphs["glance"].width("policy_state"), pooled=self._graphs["focus"].width("pooled_state")
        )

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
        """Run both graphs once at every planned batch size."""
        for size in self._batch_sizes:
            for name, graph in self._graphs.items():
                self._run(name, example_feeds(graph, size))

    def close(self) -> None:
        """Drop the sessions; their memory goes with them."""
        self._sessions.clear()

    def _run(self, name: Component, feeds: Mapping[str, Array]) -> dict[str, Float32]:
        graph = self._graphs[name]
        wanted = {spec.name for spec in graph.inputs}
        rows = len(next(iter(feeds.values())))
        size = self.padded(rows)
        padded = {key: _pad(value, size) for key, value in feeds.items() if key in wanted}
        names = [spec.name for spec in graph.outputs]
        try:
            outputs = self._sessions[name].run(names, padded)
        except Exception as error:  # ONNX Runtime has no public exception base class
            raise RunnerError(f"the {name} graph failed on {rows} rows") from error
        return {key: value[:rows] for key, value in zip(names, outputs, strict=True)}


def example_feeds(graph: Graph, batch: int) -> dict[str, Array]:
    """Zero arrays of a graph's input shapes at a batch size."""
    return {
        spec.name: np.zeros([batch if isinstance(size, str) else size for size in spec.shape], dtype=spec.dtype)
        for spec in graph.inputs
    }


def batch_sizes_up_to(largest: int) -> tuple[int, ...]:
    """1, 2, 4, … and the largest itself: few shapes to plan, at most half of a batch is padding."""
    sizes = [1]
    while sizes[-1] * 2 < largest:
        sizes.append(sizes[-1] * 2)
    return (*sizes, largest) if largest > 1 else (1,)


def _graph(manifest: Manifest, component: Component) -> Graph:
    try:
        return manifest.graph(component, "onnx", "fp32")
    except KeyError as error:
        raise RunnerError(
            f"the bundle holds no {component} graph as onnx fp32; export it with --format onnx"
        ) from error


def _pad(array: Array, size: int) -> Array:
    if len(array) == size:
        return array
    return np.concatenate([array, np.zeros((size - len(array), *array.shape[1:]), dtype=array.dtype)])


def _session(path: str, provider: str, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Waiting threads must sleep: spinning ones take the decoder's processor on a small machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chain: list[str | tuple[str, dict[str, str]]] = [provider]
    if provider == "CUDAExecutionProvider":
        if provider not in ort.get_available_providers():
            raise RunnerError(
                "onnxruntime-cuda was asked for, but this ONNX Runtime has no CUDA provider; "
                "install the extra `gpu` in place of `serve`"
            )
        # EXHAUSTIVE search would cost most of a second for every new shape.
        chain = [(provider, {"cudnn_conv_algo_search": "HEURISTIC"}), "CPUExecutionProvider"]
    session = ort.InferenceSession(path, options, providers=chain)
    if session.get_providers()[0] != provider:
        # ONNX Runtime falls back to the processor with no more than a log line.
        raise RunnerError(f"{provider} was asked for, but ONNX Runtime fell back to {session.get_providers()[0]}")
    return session


def _one_runtime_only() -> None:
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) > 1:
        raise RunnerError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "uninstall both, then install one"
        )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True

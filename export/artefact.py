"""An exported graph, loaded from its bytes and run on the processor, for verification and calibration."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from adafocus.bundle.instructions import onnx_session_entries
from adafocus.bundle.manifest import Graph
from adafocus.bundle.onnx_runtime import ort
from adafocus.bundle.signature import VIDEOS, looks_ahead
from adafocus.export.errors import ExportError, first_line

Float32 = npt.NDArray[np.float32]
Feeds = Mapping[str, npt.NDArray[Any]]


class Artefact(Protocol):
    """One graph of a bundle in any format."""

    @property
    def looks_ahead(self) -> bool:
        """True if a batch may hold several steps of one video."""

    def width(self, name: str) -> int:
        """Size of the last dimension of an input or output.

        Raises:
            ExportError: the graph has none of that name.
        """

    def run(self, feeds: Feeds) -> dict[str, Float32]:
        """Outputs by name.

        Raises:
            ExportError: the graph fails on these inputs.
        """


class OnnxGraph:
    """An ONNX file in memory, run by ONNX Runtime."""

    def __init__(self, component: str, content: bytes, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        for entry, value in onnx_session_entries().items():
            options.add_session_config_entry(entry, value)
        self._component = component
        try:
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime has no public exception base class
            raise ExportError(f"{component}: ONNX Runtime cannot load the graph: {first_line(error)}") from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    @property
    def looks_ahead(self) -> bool:
        """See `Artefact`."""
        return any(tensor.shape[0] == VIDEOS for tensor in self._session.get_inputs())

    def width(self, name: str) -> int:
        """See `Artefact`."""
        for tensor in (*self._session.get_inputs(), *self._session.get_outputs()):
            if tensor.name == name:
                return int(tensor.shape[-1])
        raise ExportError(f"{self._component}: the graph has no tensor {name!r}")

    def run(self, feeds: Feeds) -> dict[str, Float32]:
        """See `Artefact`."""
        try:
            return dict(zip(self._outputs, self._session.run(self._outputs, dict(feeds)), strict=True))
        except Exception as error:  # as above
            raise ExportError(f"{self._component}: ONNX Runtime cannot run the graph: {first_line(error)}") from error


class TorchScriptGraph:
    """A TorchScript archive in memory; inputs and outputs are identified by their positions in the signature."""

    def __init__(self, graph: Graph, content: bytes) -> None:
        self._graph = graph
        try:
            self._module = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call] # torch: no types
        except (RuntimeError, ValueError) as error:
            raise ExportError(f"{graph.component}: torch cannot load the graph: {first_line(error)}") from error

    @property
    def looks_ahead(self) -> bool:
        """See `Artefact`."""
        return looks_ahead(self._graph)

    def width(self, name: str) -> int:
        """See `Artefact`."""
        if name not in {spec.name for spec in (*self._graph.inputs, *self._graph.outputs)}:
            raise ExportError(f"{self._graph.component}: the graph has no tensor {name!r}")
        return self._graph.width(name)

    def run(self, feeds: Feeds) -> dict[str, Float32]:
        """See `Artefact`."""
        inputs = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])) for spec in self._graph.inputs]
        try:
            with torch.inference_mode():
                outputs = self._module(*inputs)
        except RuntimeError as error:
            raise ExportError(f"{self._graph.component}: torch cannot run the graph: {first_line(error)}") from error
        names = [spec.name for spec in self._graph.outputs]
        return {name: output.numpy() for name, output in zip(names, outputs, strict=True)}


def load_artefact(graph: Graph, content: bytes) -> Artefact:
    """Load a graph of either format, with as many threads as torch has.

    Raises:
        ExportError: it does not load.
    """
    if graph.format == "torchscript":
        return TorchScriptGraph(graph, content)
    return OnnxGraph(graph.component, content, torch.get_num_threads())

"""ONNX Runtime sessions on a device, with memory there that is taken once for each batch size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from adafocus.bundle.onnx_runtime import ort
from adafocus.service.engine.runners.base import Array, Component, Float32, RunnerError
from adafocus.service.engine.runners.graphs import Graphs


class BoundRun:
    """A session with inputs and outputs at addresses that never change, as a device needs to replay its kernels.

    Args:
        session: of one graph, for batches of one size.
        inputs: arrays of the shapes that it will be given.
        known: values on the device that inputs of these names are read from instead of memory of their own.
        outputs: what it gives, by name and in their order, with the shapes for this size.
        device: as ONNX Runtime calls it.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        inputs: Mapping[str, Array],
        known: Mapping[str, ort.OrtValue],
        outputs: Mapping[str, tuple[int, ...]],
        device: str,
    ) -> None:
        self._session = session
        self.inputs = {
            name: known[name] if name in known else ort.OrtValue.ortvalue_from_numpy(array, device, 0)
            for name, array in inputs.items()
        }
        self.outputs = {
            name: ort.OrtValue.ortvalue_from_shape_and_type(list(shape), np.float32, device, 0)
            for name, shape in outputs.items()
        }
        self._binding = session.io_binding()
        for name, value in self.inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        for name, value in self.outputs.items():
            self._binding.bind_ortvalue_output(name, value)

    def run(self) -> None:
        """Run on what the inputs hold."""
        self._session.run_with_iobinding(self._binding)


class DeviceSessions:
    """A session per graph and batch size, with memory on the device that is taken once.

    What the glance saw and made is where the focus reads it.

    Every output comes back to the host, too: rows carry their own states, and the next batch may hold others. Beside a
    frame, which only goes once, the states of a row are small.

    Each batch size has a session of its own. ONNX Runtime's convolutions on CUDA keep cuDNN's plan for the last shape
    that they met and make another for a different one, fifty of them in every run whose size is not that of the run
    before: an answer of eight steps took 161 ms on an H200 where steps of one size take 2 ms each. And a session that
    captures its kernels replays them for one size, at the same addresses.

    Args:
        open_session: opens a session for a graph.
        graphs: what the bundle says of them.
        device: as ONNX Runtime calls it.
    """

    def __init__(self, open_session: Callable[[Component], ort.InferenceSession], graphs: Graphs, device: str) -> None:
        self._open = open_session
        self._spare = {name: open_session(name) for name in graphs}  # what cannot be loaded is told at once
        self._sessions: dict[tuple[Component, int], ort.InferenceSession] = {}
        self._bound: dict[tuple[Component, int, int], BoundRun] = {}
        self._graphs = graphs
        self._device = device
        self.fetched: Callable[[int], None] | None = None
        """See `service.engine.runners.fetching.DeviceExecutor`."""
        self._there: dict[int, tuple[Array, ort.OrtValue]] = {}

    @property
    def sizes(self) -> dict[Component, list[int]]:
        """Batch sizes that have a session, by graph."""
        return {name: sorted(rows for graph, rows in self._sessions if graph == name) for name in self._graphs}

    def run(self, component: Component, feeds: Mapping[str, Array]) -> Mapping[str, Float32]:
        """See `Executor`."""
        rows, videos = len(feeds["frames"]), min(map(len, feeds.values()))
        try:
            bound = self._bound.get((component, rows, videos)) or self._bind(component, feeds, rows, videos)
            for name, array in feeds.items():
                if name == "frames" and self.fetched is not None and component == "glance":
                    self.fetched(bound.inputs[name].data_ptr())
                elif not self._is_there(array, bound.inputs[name]):
                    bound.inputs[name].update_inplace(np.ascontiguousarray(array))
            bound.run()
            made = {name: self._on_host(value) for name, value in bound.outputs.items()}
        except Exception as error:  # ONNX Runtime has no public exception base class
            raise RunnerError(f"the {component} graph failed") from error
        there = [
            *((feeds[name], bound.inputs[name]) for name in feeds),
            *zip(made.values(), bound.outputs.values(), strict=True),
        ]
        self._there = {id(array): (array, value) for array, value in there}
        return made

    def _on_host(self, value: ort.OrtValue) -> Float32:
        """A copy of an output: on the processor, ``numpy()`` is a view that the next run would overwrite."""
        array: Float32 = value.numpy()
        return array.copy() if self._device == "cpu" else array

    def close(self) -> None:
        """Drop the sessions; their memory goes with them."""
        self._there.clear()
        self._bound.clear()
        self._sessions.clear()
        self._spare.clear()

    def _is_there(self, array: Array, value: ort.OrtValue) -> bool:
        """Return True if the input holds that very array already: the glance was given it, or made it."""
        known = self._there.get(id(array))
        return known is not None and known[0] is array and known[1] is value

    def _bind(self, component: Component, feeds: Mapping[str, Array], rows: int, videos: int) -> BoundRun:
        """Take the memory of a size, and open its session if it has none: while the runner warms up, as a rule."""
        if (component, rows) not in self._sessions:
            self._sessions[component, rows] = self._spare.pop(component, None) or self._open(component)
        glance = self._bound.get(("glance", rows, videos))
        known = {} if glance is None or component == "glance" else glance.inputs | glance.outputs
        shapes = {spec.name: (rows, *_sizes(spec.shape[1:])) for spec in self._graphs[component].outputs}
        shared = {name: known[name] for name, array in feeds.items() if name in known and _holds(known[name], array)}
        bound = BoundRun(self._sessions[component, rows], feeds, shared, shapes, self._device)
        self._bound[component, rows, videos] = bound
        return bound


def _holds(value: ort.OrtValue, array: Array) -> bool:
    return tuple(value.shape()) == array.shape


def _sizes(shape: Sequence[int | str]) -> tuple[int, ...]:
    """Dimensions that are numbers; behind the batch, all are."""
    return tuple(int(size) for size in shape)

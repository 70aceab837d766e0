"""OpenVINO on the processor, reading the ONNX graphs; in bfloat16 where the processor multiplies it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Importing OpenVINO tells its makers so over the network, under an identity that it keeps in the home folder.
# Without the package that does it, it goes without. The imports below therefore come after a statement (E402).
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None stops an import

import openvino as ov  # noqa: E402

from adafocus.bundle.instructions import has_int8  # noqa: E402
from adafocus.bundle.manifest import Precision  # noqa: E402
from adafocus.service.engine.runners.base import Array, Component, Float32, RunnerError, first_line  # noqa: E402
from adafocus.service.engine.runners.graphs import Executor, Graphs  # noqa: E402
from adafocus.service.engine.runners.model_cache import check_cache  # noqa: E402

DEVICE = "CPU"
PATCHES = "patches"
LOW_PRECISION = "LP_TRANSFORMS_MODE"
"""OpenVINO's property that decides whether quantised parts of a graph are computed in 8 bits."""

LOOKUPS = ("Gather", "GatherND")
LARGE_TABLE = 1 << 16
"""Numbers in a table of weights from which it pays to keep them halved."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A compiled part of a graph: which arrays it takes, and the names of what it gives."""

    request: ov.InferRequest
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def run(self, feeds: Mapping[str, Array]) -> dict[str, Float32]:
        """Outputs by name, in memory of their own."""
        given = {index: feeds[name] for index, name in enumerate(self.inputs)}
        found = self.request.infer(given, share_inputs=True)
        return {name: found[index] for index, name in enumerate(self.outputs)}


class OpenVinoRequests:
    """The stages of each graph, one after the other."""

    def __init__(self, stages: Mapping[Component, Sequence[Stage]], graphs: Graphs) -> None:
        self._stages = dict(stages)
        self._outputs = {name: [spec.name for spec in graph.outputs] for name, graph in graphs.items()}

    def run(self, component: Component, feeds: Mapping[str, Array]) -> Mapping[str, Float32]:
        """See `Executor`."""
        known: dict[str, Array] = dict(feeds)
        found: dict[str, Float32] = {}
        try:
            for stage in self._stages[component]:
                found |= stage.run(known)
                known |= found
        except RuntimeError as error:
            raise RunnerError(f"the {component} graph failed") from error
        return {name: found[name] for name in self._outputs[component]}

    def close(self) -> None:
        """Drop the requests; their models' memory goes with them."""
        self._stages.clear()


def open_executor(
    files: Mapping[Component, Path], graphs: Graphs, threads: int, precision: Precision, cache: Path | None = None
) -> Executor:
    """Both graphs on the processor.

    Raises:
        RunnerError: a file cannot be loaded, the processor does not have the precision, or the cache cannot be trusted.
    """
    core = ov.Core()
    if cache is not None:
        check_cache(cache)
        core.set_property({"CACHE_DIR": str(cache)})  # which OpenVINO keys by model, device and its own version
    if precision == "bf16" and "BF16" not in core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES"):
        raise RunnerError("this processor does not compute in bf16; choose fp32")
    exact = compile_options(threads, "fp32")
    fast = compile_options(threads, precision)
    stages: dict[Component, list[Stage]] = {}
    try:
        for component, file in files.items():
            model = core.read_model(str(file))
            names = [spec.name for spec in graphs[component].outputs]
            if precision == "bf16" and component == "focus":
                # In bfloat16 a patch's corner would be rounded to half pixels: patches are cut in float32.
                crop, rest = split_at_patches(model)
                halve_tables(rest)
                stages[component] = [_stage(core, crop, exact, [PATCHES]), _stage(core, rest, fast, names)]
            else:
                stages[component] = [_stage(core, model, fast, names)]
    except RuntimeError as error:
        raise RunnerError(f"OpenVINO cannot load {file.name}: {first_line(error)}") from error
    return OpenVinoRequests(stages, graphs)


def compile_options(threads: int, precision: Precision) -> dict[str, object]:
    """OpenVINO's options for a graph of one precision, on this processor."""
    options: dict[str, object] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # the decoders' processes share these processors
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    if precision == "int8" and not has_int8():
        # OpenVINO's 8-bit kernels add pairs of products in 16 bits here, which saturate without an error. The graph is
        # computed in fp32 instead, with the same roundings: exact, at the price of fp32.
        options[LOW_PRECISION] = "NO"
    return options


def split_at_patches(model: ov.Model) -> tuple[ov.Model, ov.Model]:
    """A focus graph in two: frames and patch centre to patches, and from patches on.

    The patches are what the first convolution reads. ``model`` is used up.
    """
    first = next(node for node in model.get_ordered_ops() if node.get_type_name() == "Convolution")
    source = first.input(0).get_source_output()
    patches = ov.opset13.parameter(source.get_partial_shape(), source.get_element_type(), PATCHES)
    for target in source.get_target_inputs():
        target.replace_source_output(patches.output(0))
    patches.output(0).get_tensor().set_names({PATCHES})
    inputs = model.get_parameters()
    rest = ov.Model(model.get_results(), [patches, *_reached(model.get_results(), inputs)])
    result = ov.opset13.result(source)
    return ov.Model([result], _reached([result], inputs)), rest


def halve_tables(model: ov.Model) -> int:
    """Keep tables of weights in bfloat16 that rows are looked up in, as every step's head is; returns how many.

    A product's weights are turned once, when a model is compiled. A row that is looked up would be copied in float32
    and turned in every run: at batch 8 that took a twelfth of a focus.
    """
    tables = 0
    for node in model.get_ordered_ops():
        source = node.input_value(0).get_node() if node.get_type_name() in LOOKUPS else None
        if source is None or source.get_type_name() != "Constant" or source.get_element_type() != ov.Type.f32:
            continue
        values = source.get_data()
        if values.size < LARGE_TABLE:
            continue
        node.input(0).replace_source_output(ov.opset13.constant(_bfloat16(values)).output(0))
        node.validate_and_infer_types()
        readers = node.output(0).get_target_inputs()
        widened = ov.opset13.convert(node, "f32").output(0)
        for reader in readers:
            reader.replace_source_output(widened)
        tables += 1
    model.validate_nodes_and_infer_types()
    return tables


def _bfloat16(values: Float32) -> ov.Tensor:
    """The upper halves of float32 numbers, rounded to nearest, ties to even."""
    bits = values.view(np.uint32)
    # OpenVINO's own memory: an array of ours would be shared with it, and not kept for it.
    tensor = ov.Tensor(ov.Type.bf16, list(values.shape))
    tensor.data.view(np.uint16)[...] = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    return tensor


def _reached(results: Sequence[ov.Node], inputs: Sequence[ov.Node]) -> list[ov.Node]:
    """Those of the inputs that the results depend on."""
    waiting, seen = list(results), set[str]()
    while waiting:
        node = waiting.pop()
        if node.get_name() not in seen:
            seen.add(node.get_name())
            waiting += [value.get_source_output().get_node() for value in node.inputs()]
    return [node for node in inputs if node.get_name() in seen]


def _stage(core: ov.Core, model: ov.Model, options: Mapping[str, object], outputs: Sequence[str]) -> Stage:
    inputs = tuple(value.get_any_name() for value in model.inputs)
    return Stage(core.compile_model(model, DEVICE, dict(options)).create_infer_request(), inputs, tuple(outputs))

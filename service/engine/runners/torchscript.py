"""TorchScript, on CUDA where torch has it and else on the processor; on CUDA in bfloat16, too.

The one file of the service that imports torch.

Nothing imports this module statically: `choose` loads it by name when the backend is asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from adafocus.bundle.manifest import Precision
from adafocus.service.engine.runners.base import Array, Component, Float32, RunnerError, first_line
from adafocus.service.engine.runners.graphs import Executor, Graphs

logger = logging.getLogger("adafocus.runner")


class TorchScriptModules:
    """A frozen module per graph, on one device.

    In bfloat16 torch's autocast decides: products and convolutions in it, and all that has to be exact (indices, sums,
    the cutting of patches) in what the graph says.
    """

    def __init__(
        self,
        files: Mapping[Component, Path],
        graphs: Graphs,
        threads: int,
        device: torch.device,
        *,
        bfloat16: bool = False,
    ) -> None:
        self._graphs = graphs
        self._device = device
        self._bfloat16 = bfloat16
        self._threads_before = torch.get_num_threads()
        torch.set_num_threads(threads)  # of the whole process, which has no other use for torch
        self._modules = {name: _load(file, device) for name, file in files.items()}

    def run(self, component: Component, feeds: Mapping[str, Array]) -> Mapping[str, Float32]:
        """See `Executor`."""
        graph = self._graphs[component]
        inputs = [torch.from_numpy(np.ascontiguousarray(feeds[spec.name])).to(self._device) for spec in graph.inputs]
        try:
            # Without profiling, a new batch size is not an occasion to compile again.
            with (
                torch.inference_mode(),
                torch.jit.optimized_execution(False),  # type: ignore[attr-defined]  # torch.jit has no types
                torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16),
            ):
                outputs = self._modules[component](*inputs)
                arrays = [output.float().cpu().numpy() for output in outputs]
        except RuntimeError as error:
            raise RunnerError(f"the {component} graph failed") from error
        return {spec.name: array for spec, array in zip(graph.outputs, arrays, strict=True)}

    def close(self) -> None:
        """Drop the modules; their memory goes with them."""
        self._modules.clear()
        torch.set_num_threads(self._threads_before)


def open_executor(
    files: Mapping[Component, Path], graphs: Graphs, threads: int, precision: Precision, cache: Path | None = None
) -> Executor:
    """Both graphs on the first CUDA device if there is one, else on the processor.

    Raises:
        RunnerError: a file cannot be loaded, or bf16 was asked for and there is no CUDA device.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bfloat16 = precision == "bf16"
    if bfloat16 and device.type != "cuda":
        raise RunnerError("backend torchscript computes in bf16 on CUDA only, and there is none here; openvino does it")
    # fp32 means fp32: torch's convolutions would round their operands to 10 bits.
    torch.backends.cudnn.allow_tf32 = False
    logger.info("torch serves", extra={"fields": {"torch": torch.__version__, "device": str(device)}})
    return TorchScriptModules(files, graphs, threads, device, bfloat16=bfloat16)


def _load(file: Path, device: torch.device) -> torch.jit.ScriptModule:
    try:
        # torch.jit has no types.
        module: torch.jit.ScriptModule = torch.jit.load(str(file), map_location=device)  # type: ignore[no-untyped-call]
        # Weights in oneDNN's layout: a third to a half faster. It is for processors only.
        return module if device.type == "cuda" else torch.jit.optimize_for_inference(module)
    except (RuntimeError, ValueError) as error:
        raise RunnerError(f"torch cannot load {file.name}: {first_line(error)}") from error

"""ONNX Runtime, on the processor and on CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

import onnxruntime as ort

from service.engine.runners.base import Array, Component, Float32, RunnerError
from service.engine.runners.graphs import Executor, Graphs

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_ProviderChain = list[str | tuple[str, dict[str, str]]]


class OnnxSessions:
    """A session per graph.

    Args:
        files: of the graphs.
        graphs: their signatures.
        providers: the wanted one first.
        threads: of one graph run.

    Raises:
        RunnerError: the provider is not there, or a file cannot be loaded.
    """

    def __init__(self, files: Mapping[Component, Path], graphs: Graphs, providers: _ProviderChain, threads: int) -> None:
        self._outputs = {name: [spec.name for spec in graph.outputs] for name, graph in graphs.items()}
        self._sessions = {name: _session(file, providers, threads) for name, file in files.items()}

    def run(self, component: Component, feeds: Mapping[str, Array]) -> Mapping[str, Float32]:
        """See `Executor`."""
        names = self._outputs[component]
        try:
            outputs = self._sessions[component].run(names, dict(feeds))
        except Exception as error:  # ONNX Runtime has no public exception base class
            raise RunnerError(f"the {component} graph failed") from error
        return dict(zip(names, outputs, strict=True))

    def close(self) -> None:
        """Drop the sessions; their memory goes with them."""
        self._sessions.clear()


def open_cpu(files: Mapping[Component, Path], graphs: Graphs, threads: int) -> Executor:
    """Both graphs on the processor.

    Raises:
        RunnerError: both ONNX Runtime packages are installed, or a file cannot be loaded.
    """
    check_one_runtime()
    return OnnxSessions(files, graphs, [CPU], threads)


def open_cuda(files: Mapping[Component, Path], graphs: Graphs, threads: int) -> Executor:
    """Both graphs on the first CUDA device; never on the processor instead.

    Raises:
        RunnerError: there is no CUDA provider or no device that it can use, or as for `open_cpu`.
    """
    check_one_runtime()
    check_cuda()
    # EXHAUSTIVE search would cost most of a second for every new shape.
    return OnnxSessions(files, graphs, [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC"}), CPU], threads)


def check_cuda() -> None:
    """Check that the installed ONNX Runtime was built with CUDA.

    Raises:
        RunnerError: it was not.
    """
    if CUDA not in ort.get_available_providers():
        raise RunnerError(
            "onnxruntime-cuda was asked for, but the ONNX Runtime that is installed is the one for processors; "
            "uninstall onnxruntime and install the extra `gpu`, or choose --backend onnxruntime-cpu"
        )


def check_one_runtime() -> None:
    """Check that not both ONNX Runtime packages are installed.

    Raises:
        RunnerError: they are.
    """
    if all(_is_installed(name) for name in ("onnxruntime", "onnxruntime-gpu")):
        raise RunnerError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "uninstall both, then install one: pip uninstall onnxruntime onnxruntime-gpu"
        )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def _session(file: Path, providers: _ProviderChain, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4 if providers[0] != CPU else 3
    # Waiting threads must sleep: spinning ones take the decoder's processor on a small machine.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    wanted = providers[0] if isinstance(providers[0], str) else providers[0][0]
    try:
        session = ort.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # ONNX Runtime has no public exception base class
        raise RunnerError(f"ONNX Runtime cannot load {file.name}: {_first_line(error)}") from error
    if session.get_providers()[0] != wanted:
        # ONNX Runtime falls back to the processor with no more than a log line.
        raise RunnerError(
            "onnxruntime-cuda was asked for, but ONNX Runtime finds no CUDA device that it can use; "
            "check the driver with nvidia-smi, or choose --backend onnxruntime-cpu"
        )
    return session


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]

"""ONNX Runtime, on the processor and on CUDA."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnxruntime as ort

from bundle.manifest import Precision
from service.engine.runners.base import Array, Component, Float32, RunnerError, first_line
from service.engine.runners.graphs import Executor, Graphs

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

SPIN_MICROSECONDS = 50
"""How long a thread waits awake for the next operator. Waking one costs a quarter of a run's time; one that stays awake
for longer takes the decoders' processors (docs/backends.md)."""

KNOWS_SPIN_DURATION = (1, 30)
"""ONNX Runtime since which a thread can be told for how long; before, it is for ever or not at all."""

_Providers = list[str | tuple[str, dict[str, str]]]


class OnnxSessions:
    """An ONNX Runtime session per graph."""

    def __init__(self, sessions: Mapping[Component, ort.InferenceSession], graphs: Graphs) -> None:
        self._sessions = dict(sessions)
        self._outputs = {name: [spec.name for spec in graph.outputs] for name, graph in graphs.items()}

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


def open_cpu(files: Mapping[Component, Path], graphs: Graphs, threads: int, precision: Precision) -> Executor:
    """Both graphs on the processor.

    Raises:
        RunnerError: a file cannot be loaded.
    """
    _share_one_arena()
    options = _options(threads)
    options.add_session_config_entry("session.use_env_allocators", "1")
    with ThreadPoolExecutor(len(files)) as loaders:
        sessions = loaders.map(lambda file: _session(file, options, [CPU]), files.values())
        return OnnxSessions(dict(zip(files, sessions, strict=True)), graphs)


def open_cuda(files: Mapping[Component, Path], graphs: Graphs, threads: int, precision: Precision) -> Executor:
    """Both graphs on the first CUDA device; never on the processor instead.

    Raises:
        RunnerError: there is no CUDA provider, no device that it can use, or a file cannot be loaded.
    """
    if CUDA not in ort.get_available_providers():
        raise RunnerError("this ONNX Runtime was built without CUDA; uninstall it and install the extra `gpu`")
    # CUDA's libraries come as wheels, where the loader does not look; without this, no device is ever found.
    ort.preload_dlls()
    options = _options(threads)
    # EXHAUSTIVE search would cost most of a second for every new shape.
    providers: _Providers = [(CUDA, {"cudnn_conv_algo_search": "HEURISTIC"}), CPU]
    sessions = {name: _session(file, options, providers) for name, file in files.items()}
    for session in sessions.values():
        if session.get_providers()[0] != CUDA:
            # ONNX Runtime falls back to the processor with no more than a log line.
            raise RunnerError(
                "ONNX Runtime finds no CUDA device that it can use; look at nvidia-smi, or choose onnxruntime-cpu"
            )
    return OnnxSessions(sessions, graphs)


def _share_one_arena() -> None:
    """Let both sessions, which never run at once, work in the same memory, which grows by what is needed only."""
    where = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    same_as_requested, default = 1, -1
    sizes = {
        "max_mem": 0,
        "arena_extend_strategy": same_as_requested,
        "initial_chunk_size_bytes": default,
        "max_dead_bytes_per_chunk": default,
    }
    ort.create_and_register_allocator(where, ort.OrtArenaCfg(sizes))


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is raised, and says so once
    if _version() >= KNOWS_SPIN_DURATION:
        options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN_MICROSECONDS))
    else:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in ort.__version__.split(".")[:2])


def _session(file: Path, options: ort.SessionOptions, providers: _Providers) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(file), options, providers=providers)
    except Exception as error:  # ONNX Runtime has no public exception base class
        raise RunnerError(f"ONNX Runtime cannot load {file.name}: {first_line(error)}") from error

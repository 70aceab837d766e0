"""ONNX Runtime, on the processor and on CUDA."""

from __future__ import annotations

import ctypes
import io
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

from adafocus.bundle.instructions import onnx_session_entries
from adafocus.bundle.manifest import Graph, Precision
from adafocus.bundle.onnx_runtime import ort
from adafocus.bundle.signature import looks_ahead
from adafocus.service.engine.runners.base import Array, Component, Float32, RunnerError, first_line
from adafocus.service.engine.runners.graphs import Executor, Graphs
from adafocus.service.engine.runners.model_cache import check_cache, kept_model
from adafocus.service.engine.runners.onnx_device import DeviceSessions

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
TENSORRT_LIBRARY = "libnvinfer.so.10"
DRIVER = "libcuda.so.1"

SPIN_MICROSECONDS = 50
"""How long a thread waits awake for the next operator. Waking one costs a quarter of a run's time; one that stays awake
for longer takes the decoders' processors (docs/backends.md)."""

KNOWS_SPIN_DURATION = (1, 30)
"""ONNX Runtime since which a thread can be told for how long; before, it is for ever or not at all."""

_FATAL = 4
"""ONNX Runtime's least talkative log severity."""

SMALLEST_MAPPED_BYTES = 1024
"""Smaller tensors stay in a prepared model's own file."""

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


def open_cpu(
    files: Mapping[Component, Path], graphs: Graphs, threads: int, precision: Precision, cache: Path | None = None
) -> Executor:
    """Both graphs on the processor.

    Raises:
        RunnerError: a file cannot be loaded, or the cache cannot be trusted.
    """
    if cache is not None:
        check_cache(cache)
    _share_one_arena()
    options = _options(threads)
    options.add_session_config_entry("session.use_env_allocators", "1")
    with ThreadPoolExecutor(len(files)) as loaders:
        sessions = loaders.map(
            lambda name: _session(_prepared(files[name], graphs[name], cache), options, [CPU]), files
        )
        return OnnxSessions(dict(zip(files, sessions, strict=True)), graphs)


def _prepared(file: Path, graph: Graph, cache: Path | None) -> Path:
    return file if cache is None else kept_model(cache, file, graph, ort.__version__, write_prepared)


def write_prepared(file: Path, target: Path) -> None:
    """Write a graph as ONNX Runtime has laid it out for this processor, the weights beside it to be mapped.

    Raises:
        OSError: it could not.
    """
    options = exact_options()
    options.optimized_model_filepath = str(target)
    for entry, value in {
        "session.optimized_model_external_initializers_file_name": f"{target.stem}.weights",
        "session.optimized_model_external_initializers_min_size_in_bytes": str(SMALLEST_MAPPED_BYTES),
        "session.save_external_prepacked_constant_initializers": "1",
    }.items():
        options.add_session_config_entry(entry, value)
    try:
        ort.InferenceSession(str(file), options, providers=[CPU])
    except Exception as error:  # as above
        raise OSError(f"ONNX Runtime could not write it: {first_line(error)}") from error


def open_cuda(
    files: Mapping[Component, Path], graphs: Graphs, threads: int, precision: Precision, cache: Path | None = None
) -> Executor:
    """Both graphs on the first CUDA device; never on the processor instead.

    Raises:
        RunnerError: there is no CUDA provider, no driver, no device that it can use, or a file cannot be loaded.
    """
    said = _load_cuda()
    replays = not any(looks_ahead(graph) for graph in graphs.values())
    providers: _Providers = [(CUDA, cuda_options(precision, replays=replays)), CPU]
    return _on_device(files, graphs, threads, providers, said)


def open_tensorrt(
    files: Mapping[Component, Path], graphs: Graphs, threads: int, precision: Precision, cache: Path | None = None
) -> Executor:
    """Both graphs on the first CUDA device, compiled by TensorRT; what it cannot compile runs on CUDA.

    Compiling takes minutes for each batch size; ``cache`` keeps the result.

    Raises:
        RunnerError: as `open_cuda`, or TensorRT's library is not installed.
    """
    said = _load_cuda()
    if TENSORRT not in ort.get_available_providers():
        raise RunnerError("this ONNX Runtime was built without TensorRT; use the backend onnxruntime-cuda")
    try:
        ctypes.CDLL(TENSORRT_LIBRARY)
    except OSError as error:
        raise RunnerError(
            f"the backend onnxruntime-tensorrt needs TensorRT's library {TENSORRT_LIBRARY}, which cannot be loaded: "
            f"{error}; pip install tensorrt, or use the backend onnxruntime-cuda"
        ) from error
    if cache is not None:
        check_cache(cache)
    providers: _Providers = [(TENSORRT, tensorrt_options(precision, cache)), (CUDA, cuda_options(precision)), CPU]
    return _on_device(files, graphs, threads, providers, said)


def tensorrt_options(precision: Precision, cache: Path | None) -> dict[str, str]:
    """Options of the TensorRT provider."""
    kept = {} if cache is None else {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache)}
    return {"trt_fp16_enable": "1" if precision == "fp16" else "0", **kept}


def _on_device(
    files: Mapping[Component, Path], graphs: Graphs, threads: int, providers: _Providers, said: str
) -> DeviceSessions:
    """Sessions of the first provider; never on the processor instead. ``said`` is what loading CUDA reported."""
    ort.set_default_logger_severity(_FATAL)  # cuDNN's tries at a plan are logged past the session's own setting
    options = _options(threads)
    first = providers[0] if isinstance(providers[0], str) else providers[0][0]

    def open_session(component: Component) -> ort.InferenceSession:
        session = _session(files[component], options, providers)
        if session.get_providers()[0] != first:
            # ONNX Runtime falls back to the processor with no more than a log line.
            raise RunnerError(f"ONNX Runtime finds no CUDA device that it can use{said}; look at nvidia-smi")
        return session

    return DeviceSessions(open_session, graphs, "cuda")


def cuda_options(precision: Precision, *, replays: bool = False) -> dict[str, str]:
    """Options of the CUDA provider.

    Args:
        precision: of the graphs.
        replays: capture a run's kernels and replay them as one, which spares their launches one by one: a step of one
            frame takes 1.1 ms instead of 3 on an H200. Graphs with control flow cannot be captured.

    ``use_tf32`` means more than its name: without it ONNX Runtime keeps every convolution off the tensor cores, an fp16
    one too, for which there then is often no plan.
    """
    halved = "1" if precision == "fp16" else "0"
    return {
        "cudnn_conv_algo_search": "HEURISTIC",  # EXHAUSTIVE would cost most of a second for every new shape
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": halved,  # fp32 means fp32; who wants speed has fp16
        "enable_cuda_graph": "1" if replays else "0",
        "prefer_nhwc": halved,  # colours innermost, as tensor cores want them: large batches take an eighth less
    }


def _load_cuda() -> str:
    """Load the driver and CUDA's libraries; returns what ONNX Runtime had to say about the latter.

    Raises:
        RunnerError: this ONNX Runtime knows no CUDA, or there is no driver.
    """
    if CUDA not in ort.get_available_providers():
        raise RunnerError("this ONNX Runtime was built without CUDA; uninstall it and install the extra `gpu`")
    try:
        ctypes.CDLL(DRIVER)
    except OSError as error:
        raise RunnerError(f"there is no CUDA device here: loading the driver ended with error: {error}") from error
    # CUDA's libraries come as wheels, where the loader does not look; without this, no device is ever found.
    with redirect_stdout(io.StringIO()) as printed:
        ort.preload_dlls()
    said = printed.getvalue().strip()
    return f" ({said.splitlines()[0]})" if said else ""


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


def exact_options() -> ort.SessionOptions:
    """Options that every session starts from: int8 graphs are exact on every processor."""
    options = ort.SessionOptions()
    options.log_severity_level = _FATAL  # what goes wrong is raised, and says so once
    for entry, value in onnx_session_entries().items():
        options.add_session_config_entry(entry, value)
    return options


def _options(threads: int) -> ort.SessionOptions:
    options = exact_options()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
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

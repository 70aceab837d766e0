"""Selects the runtime and precision that serve a bundle: those asked for, or the fastest that are installed.

Runtimes are imported by name, when one is used: none of them is needed to import the service.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from adafocus.bundle.instructions import has_bf16, has_int8
from adafocus.bundle.manifest import GraphFormat, Manifest, Precision
from adafocus.bundle.store import Bundle
from adafocus.service.engine.runners.base import LARGE_STEP_FLOPS, Component, Runner, RunnerError
from adafocus.service.engine.runners.fetching import DeviceExecutor, FetchingRunner
from adafocus.service.engine.runners.graphs import Executor, GraphRunner, Graphs, graphs_of, has_graphs
from adafocus.service.engine.runners.loading_limit import bounded_loading, most_loading_bytes

PROCESSOR_MAX_BATCH, GPU_MAX_BATCH = 8, 64

FASTEST_LARGE: tuple[tuple[str, Precision], ...] = (
    ("openvino", "int8"),
    ("onnxruntime-cpu", "int8"),
    ("openvino", "bf16"),
    ("onnxruntime-cpu", "fp32"),
    ("openvino", "fp32"),
    ("torchscript", "fp32"),
)
"""Fastest first, as measured with the paper's model (benchmarks.backends)."""

FASTEST_SMALL: tuple[tuple[str, Precision], ...] = (
    ("onnxruntime-cpu", "fp32"),
    ("openvino", "fp32"),
    ("torchscript", "fp32"),
)

OpenExecutor = Callable[[Mapping[Component, Path], Graphs, int, Precision, Path | None], Executor]

logger = logging.getLogger("adafocus.runner")


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """The options that a runner is made with.

    Attributes:
        threads: of one graph run, on the processor.
        batch_sizes: ascending; every batch runs at one of them.
        backend: name of a runtime; None: the fastest that is installed.
        precision: None: the fastest that bundle, runtime and processor have together.
        look_ahead: steps of one video that a batch may hold, where the graphs can.
        cache: folder of models as the runtime has prepared them for this processor; None: prepared at every start.
    """

    threads: int
    batch_sizes: tuple[int, ...]
    backend: str | None = None
    precision: Precision | None = None
    cache: Path | None = None
    look_ahead: int = 1


@dataclass(frozen=True, slots=True)
class Abilities:
    """The machine's installed distributions, and the precisions that its processor is fast in."""

    installed: frozenset[str]
    precisions: frozenset[Precision]


@dataclass(frozen=True, slots=True)
class Backend:
    """A runtime.

    Attributes:
        distributions: any of them provides it; the first is what the extra installs.
        extra: of this project, that installs it.
        opens: module and function of its `OpenExecutor`.
        format: of the graphs that it reads.
        precisions: what it can compute in, fastest first, and the precision of the graphs that it reads for it.
        on_processor: it needs no other device.
        pads_ahead: batches of one video's steps are padded, too: a size of its own costs more than the padding.
        copies: module and function that give the `DeviceCopies` of its device; None: the processor copies frames.
        environment: variables that its libraries read when they are loaded; what the user has set stays.
    """

    distributions: tuple[str, ...]
    extra: str
    opens: tuple[str, str]
    format: GraphFormat
    precisions: Mapping[Precision, Precision]
    on_processor: bool = True
    pads_ahead: bool = False
    copies: tuple[str, str] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


_ROOM = "adafocus.service.engine.runners"

BACKENDS: Mapping[str, Backend] = {
    "onnxruntime-cpu": Backend(
        ("onnxruntime", "onnxruntime-gpu"),
        "serve",
        (f"{_ROOM}.onnx", "open_cpu"),
        "onnx",
        {"int8": "int8", "fp32": "fp32"},
    ),
    "onnxruntime-cuda": Backend(
        ("onnxruntime-gpu",),
        "gpu",
        (f"{_ROOM}.onnx", "open_cuda"),
        "onnx",
        {"fp16": "fp16", "fp32": "fp32"},
        on_processor=False,
        pads_ahead=True,
        copies=(f"{_ROOM}.cuda_copies", "open_copies"),
    ),
    "onnxruntime-tensorrt": Backend(
        ("onnxruntime-gpu",),
        "gpu",
        (f"{_ROOM}.onnx", "open_tensorrt"),
        "onnx",
        {"fp16": "fp16", "fp32": "fp32"},
        on_processor=False,
        pads_ahead=True,
        copies=(f"{_ROOM}.cuda_copies", "open_copies"),
    ),
    "openvino": Backend(
        ("openvino",),
        "openvino",
        (f"{_ROOM}.openvino", "open_executor"),
        "onnx",
        {"int8": "int8", "bf16": "fp32", "fp32": "fp32"},
    ),
    "torchscript": Backend(
        ("torch",),
        "torch",
        (f"{_ROOM}.torchscript", "open_executor"),
        "torchscript",
        {"fp32": "fp32", "bf16": "fp32"},  # bf16 only when asked for: it takes a GPU
        # OpenMP's threads else spin between two graph runs, on the decoders' processors.
        environment={"OMP_WAIT_POLICY": "PASSIVE"},
    ),
}


def open_runner(bundle: Bundle, options: RunnerOptions) -> Runner:
    """The runner that was asked for, or the fastest one for this bundle on this machine.

    Raises:
        RunnerError: there is no such backend, it cannot run here, or the bundle has no graphs for it.
    """
    here = abilities_here()
    if options.backend is not None:
        if options.backend not in BACKENDS:
            raise RunnerError(f"unknown backend {options.backend!r}; there are {', '.join(BACKENDS)}")
        return _open(bundle, options, options.backend, here)
    check_one_onnxruntime(here.installed)
    if takes_gpu(bundle.manifest, None, here):
        try:
            return _open(bundle, options, "onnxruntime-cuda", here)
        except RunnerError as error:
            # The runtime for GPUs is installed, so log why no GPU is used.
            logger.warning("no GPU is used", extra={"fields": {"because": str(error)}})
    elif "onnxruntime-gpu" in here.installed:
        logger.info("a small model is served on the processor; to use a GPU, name its backend")
    return _open(bundle, options, fastest_on_processor(bundle.manifest, options.precision, here), here)


def takes_gpu(manifest: Manifest, backend: str | None, here: Abilities) -> bool:
    """Return True if a bundle is served on a GPU, provided that this machine has a usable one.

    A small model is not, unless its backend is named: its step is over on the processor before a GPU has been given
    its frames (docs/backends.md).
    """
    if backend is not None:
        return backend in BACKENDS and not BACKENDS[backend].on_processor
    return "onnxruntime-gpu" in here.installed and _is_large(manifest)


def runs_on_processor(backend: str) -> bool:
    """Whether a backend shares the processors with the decoders."""
    return backend in BACKENDS and BACKENDS[backend].on_processor


def default_max_batch(*, gpu: bool) -> int:
    """Rows of a batch where none are set: a GPU takes as long for one as for eight, and gains up to a hundred."""
    return GPU_MAX_BATCH if gpu else PROCESSOR_MAX_BATCH


def fastest_on_processor(manifest: Manifest, wanted: Precision | None, here: Abilities) -> str:
    """Name of the backend that serves the bundle fastest without a GPU; the first one if none can."""
    fastest = FASTEST_LARGE if _is_large(manifest) else FASTEST_SMALL
    found: list[tuple[int, int, str]] = []
    for name, backend in BACKENDS.items():
        if backend.on_processor and here.installed.intersection(backend.distributions):
            precision = choose_precision(backend, manifest, wanted, here)
            if precision is not None:
                kind = (name, precision)
                found.append((fastest.index(kind) if kind in fastest else len(fastest), len(found), name))
    return min(found)[2] if found else next(iter(BACKENDS))


def choose_precision(
    backend: Backend, manifest: Manifest, wanted: Precision | None, here: Abilities
) -> Precision | None:
    """The precision that was wanted, or the fastest for that backend; None if the bundle has no graphs for it."""
    held = [
        precision
        for precision, read in backend.precisions.items()
        if has_graphs(manifest, backend.format, read) and wanted in (None, precision)
    ]
    if backend.on_processor and "fp32" in held and not _is_large(manifest):
        return "fp32"
    fast = [precision for precision in held if not backend.on_processor or precision in here.precisions]
    return next(iter(fast or held), None)


def graph_threads(manifest: Manifest, cores: int) -> int:
    """Threads for one graph run on so many processors.

    A small model's step is over before a second thread has woken up, and decoding, which is most of a small model's
    time, wants the processors: it gets a quarter of them. (One thread for two processors: an idle service answers 2 ms
    sooner without exit, a busy one answers a tenth more.)
    """
    return cores if _is_large(manifest) else max(1, cores // 4)


def _is_large(manifest: Manifest) -> bool:
    return manifest.flops.per_step >= LARGE_STEP_FLOPS


def abilities_here() -> Abilities:
    """Find the installed distributions and the precisions that this processor is fast in."""
    distributions = {name for backend in BACKENDS.values() for name in backend.distributions}
    precisions: set[Precision] = {"fp32"}
    if has_int8():
        precisions.add("int8")
    if has_bf16():
        precisions.add("bf16")
    return Abilities(frozenset(filter(_is_installed, distributions)), frozenset(precisions))


def check_one_onnxruntime(installed: frozenset[str]) -> None:
    """Check that not both ONNX Runtime packages are installed; pip does not.

    Raises:
        RunnerError: they are.
    """
    if {"onnxruntime", "onnxruntime-gpu"} <= installed:
        raise RunnerError(
            "onnxruntime and onnxruntime-gpu are both installed and overwrite each other's files; "
            "uninstall both and install the one that is wanted"
        )


def _open(bundle: Bundle, options: RunnerOptions, name: str, here: Abilities) -> Runner:
    backend = BACKENDS[name]
    if "onnxruntime-gpu" in backend.distributions:
        check_one_onnxruntime(here.installed)
    if not here.installed.intersection(backend.distributions):
        raise RunnerError(_missing(name, backend, here))
    if options.precision is not None and options.precision not in backend.precisions:
        raise RunnerError(
            f"backend {name} does not compute in {options.precision}; it does in {', '.join(backend.precisions)}"
        )
    precision = choose_precision(backend, bundle.manifest, options.precision, here) or options.precision or "fp32"
    graphs = graphs_of(bundle.manifest, backend.format, backend.precisions[precision])
    files = {component: bundle.file(graph) for component, graph in graphs.items()}
    if precision == "int8" and precision not in here.precisions:
        logger.warning(
            "this processor has no 8-bit dot products: int8 saves little or no time",
            extra={"fields": {"precision": precision}},
        )
    for variable, value in backend.environment.items():
        os.environ.setdefault(variable, value)
    module, function = backend.opens
    open_executor = cast("OpenExecutor", getattr(importlib.import_module(module), function))
    most = most_loading_bytes(graphs.values()) if backend.on_processor else None
    with bounded_loading(most):
        executor = open_executor(files, graphs, options.threads, precision, options.cache)
    make = partial(_fetching, bundle.manifest, backend) if backend.copies is not None else GraphRunner
    return make(
        executor,
        graphs,
        backend=name,
        precision=precision,
        batch_sizes=options.batch_sizes,
        look_ahead=options.look_ahead,
        pad_ahead=backend.pads_ahead,
        warm_up_bytes=most,
    )


def _fetching(manifest: Manifest, backend: Backend, executor: Executor, graphs: Graphs, **options: Any) -> GraphRunner:
    """A runner whose device fetches frames, or one that is given them if the device cannot."""
    module, function = backend.copies or ("", "")
    try:
        copies = getattr(importlib.import_module(module), function)()
        return FetchingRunner(cast("DeviceExecutor", executor), graphs, copies, side=manifest.geometry.crop, **options)
    except RunnerError as error:
        logger.warning("frames are copied by the processor", extra={"fields": {"because": str(error)}})
        return GraphRunner(executor, graphs, **options)


def _missing(name: str, backend: Backend, here: Abilities) -> str:
    needed = backend.distributions[0]
    first = "uninstall onnxruntime, then " if needed == "onnxruntime-gpu" and "onnxruntime" in here.installed else ""
    return f"backend {name} needs {needed}, which is not installed; {first}pip install -e '.[{backend.extra}]'"


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True

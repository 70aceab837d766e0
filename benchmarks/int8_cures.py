"""Measures int8's errors against its graphs' definition, and each cure's cost, on this or an emulated processor.

Graphs of actnet_mbv2_p128 with the weights of the parity fixtures: signed weights of 8 bits, of 7 bits, and unsigned
ones. All variants take turns; times are processor time, which other work on the machine disturbs least.

    python -m benchmarks.int8_cures [--graphs DIR] [--rounds 20] [--emulator "qemu-x86_64 -cpu Haswell"]
"""

from __future__ import annotations

import argparse
import json
import pickle
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from adafocus.bundle.instructions import PRECISE_INT8
from benchmarks.machine import processor, write_results

Run = Callable[[Mapping[str, Any]], list[Any]]

COMPONENTS = ("glance", "focus")
OUTPUTS = {"glance": "glance_feature", "focus": "logits"}
WEIGHTS = {"s8": {}, "s7": {"reduce_range": True}, "u8": {"weight_type": "QUInt8"}}
VARIANTS = {
    ("onnxruntime", "fp32"): "fp32",
    ("onnxruntime", "int8, no cure"): "s8",
    ("onnxruntime", "int8, session entry"): "s8",
    ("onnxruntime", "int8, unsigned weights"): "u8",
    ("onnxruntime", "int8, weights of 7 bits"): "s7",
    ("openvino", "fp32"): "fp32",
    ("openvino", "int8, no cure"): "s8",
    ("openvino", "int8, computed in fp32"): "s8",
    ("openvino", "int8, weights of 7 bits"): "s7",
}
BATCHES = (1, 8)


def main() -> None:
    """Make the graphs if they are missing, measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graphs", type=Path, help="folder of the graphs; made if it is empty")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--emulator", default="", help="command that runs this interpreter on another processor")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    ask = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        graphs: Path = ask.graphs or Path(folder)
        if ask.worker:
            print(json.dumps(measure(graphs, ask.rounds)))
            return
        if not (graphs / "references.npz").exists():
            build(graphs)
        command = [*shlex.split(ask.emulator), sys.executable, "-m", "benchmarks.int8_cures", "--worker"]
        command += ["--graphs", str(graphs), "--rounds", str(0 if ask.emulator else ask.rounds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    where = ask.emulator.rpartition(" ")[2] or processor()
    rows = [{"processor": where, **row} for row in json.loads(done.stdout)]
    for row in rows:
        print(row)
    print(write_results("int8_cures", where.lower().replace(" ", "-"), rows))


def build(folder: Path) -> None:
    """Write every graph, the inputs of a video, and what each graph defines for them."""
    from adafocus.export import quantize as module
    from adafocus.export.artefact import OnnxGraph
    from adafocus.export.calibration_set import Recorder
    from adafocus.export.example_frames import texture
    from adafocus.export.graph_runs import run_steps
    from adafocus.export.graphs import served_graphs
    from adafocus.export.to_onnx import to_onnx
    from tests.parity import authors

    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        model = authors.load("act_mbv2_p128", authors.FRAME_CONFIGS["act_mbv2_p128"], Path(scratch))
    signatures = {graph.component: graph.signature() for graph in served_graphs(model, by_rows=True)}
    contents = {graph.component: to_onnx(graph) for graph in served_graphs(model, by_rows=True)}
    glance, focus = (Recorder(OnnxGraph(name, contents[name], threads=1)) for name in COMPONENTS)
    run_steps(glance, focus, [texture(16, 224, seed) for seed in range(2)])
    references: dict[str, Any] = {}
    for name, recorder in zip(COMPONENTS, (glance, focus), strict=True):
        (folder / f"{name}.pkl").write_bytes(pickle.dumps(recorder.feeds[2:8]))
        made = {"fp32": contents[name]}
        for kind, options in WEIGHTS.items():
            given = {
                key: module.QuantType[value] if isinstance(value, str) else value for key, value in options.items()
            }
            static = module.quantize_static
            with mock.patch.object(module, "quantize_static", lambda *a, _s=static, _g=given, **o: _s(*a, **(o | _g))):
                layers = module.layers_of(contents[name])
                made[kind] = module.quantize(contents[name], signatures[name], recorder.feeds[:4], layers)
        for kind, content in made.items():
            (folder / f"{name}-{kind}.onnx").write_bytes(content)
            references[f"{name}-{kind}"] = outputs(
                in_onnxruntime(folder / f"{name}-{kind}.onnx", name, exact=True), recorder.feeds[2:8]
            )
    np.savez(folder / "references.npz", **references)


def measure(folder: Path, rounds: int) -> list[dict[str, object]]:
    """A row for each component and variant: errors, and processor time unless there are no rounds."""
    references, rows = np.load(folder / "references.npz"), []
    for name in COMPONENTS:
        feeds = pickle.loads((folder / f"{name}.pkl").read_bytes())  # noqa: S301 - written by `build`
        runs = {key: open_variant(folder, name, *key) for key in VARIANTS}
        times = {batch: timed(runs, feeds[1], batch, rounds) for batch in BATCHES}
        for (runtime, variant), kind in VARIANTS.items():
            found, spread = outputs(runs[runtime, variant], feeds), references[f"{name}-fp32"].std()
            row: dict[str, object] = {"graph": name, "runtime": runtime, "variant": variant}
            for column, reference in (("from_definition", f"{name}-{kind}"), ("from_fp32", f"{name}-fp32")):
                error = np.sqrt(np.mean(np.square(found - references[reference]))) / spread
                row[f"rms_{column}"] = round(float(error), 5)
            rows.append(row | {f"cpu_ms_batch_{batch}": times[batch][runtime, variant] for batch in BATCHES})
    return rows


def timed(runs: Mapping[tuple[str, str], Run], feed: Mapping[str, Any], batch: int, rounds: int) -> dict[Any, object]:
    """Median processor time per frame in milliseconds, by variant."""
    feeds = {name: np.concatenate([value] * batch)[:batch] for name, value in feed.items()}
    seconds: dict[Any, list[float]] = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            begun = time.process_time()
            run(feeds)
            seconds[key].append(time.process_time() - begun)
    return {key: round(1000 * statistics.median(each) / batch, 2) if each else "" for key, each in seconds.items()}


def outputs(run: Run, feeds: list[Mapping[str, Any]]) -> Any:
    """The component's output on all inputs, one after the other."""
    return np.concatenate([run(feed)[0] for feed in feeds])


def open_variant(folder: Path, name: str, runtime: str, variant: str) -> Run:
    """A graph in a runtime, with one thread."""
    file = folder / f"{name}-{VARIANTS[runtime, variant]}.onnx"
    if runtime == "openvino":
        return in_openvino(file, name, low_precision=variant != "int8, computed in fp32")
    return in_onnxruntime(file, name, entry=variant == "int8, session entry")


def in_onnxruntime(file: Path, name: str, entry: bool = False, exact: bool = False) -> Run:
    """In ONNX Runtime; ``exact`` computes every operator by itself, as the graph defines it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    if exact:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if entry:
        options.add_session_config_entry(PRECISE_INT8, "1")
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return lambda feed: session.run([OUTPUTS[name]], dict(feed))


def in_openvino(file: Path, name: str, low_precision: bool) -> Run:
    """In OpenVINO, with its 8-bit kernels or without."""
    from adafocus.service.engine.runners.openvino import DEVICE, LOW_PRECISION, compile_options, ov

    core = ov.Core()
    options = compile_options(1, "fp32") | {LOW_PRECISION: "YES" if low_precision else "NO"}
    compiled = core.compile_model(core.read_model(str(file)), DEVICE, options)
    request, names = compiled.create_infer_request(), [value.any_name for value in compiled.inputs]
    place = next(index for index, value in enumerate(compiled.outputs) if value.any_name == OUTPUTS[name])
    return lambda feed: [request.infer({index: feed[each] for index, each in enumerate(names)})[place].copy()]


if __name__ == "__main__":
    main()

"""The worker process of `benchmarks.backends`: loads one variant, then measures it on request.

python -m benchmarks.backend_worker '{"kind": "variant", …}'
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from adafocus.bundle.instructions import onnx_session_entries
from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import Bundle, load_bundle
from adafocus.service.engine.runners.base import Runner
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from benchmarks.machine import graphics_megabytes
from benchmarks.refill import exit_steps, with_refill

PEAK_SIDE = 2048
GPU_PEAK_SIDE = 8192
PEAK_SECONDS = 0.5
VIDEOS = 16
PAPERS_SHARE = 9.9 / 27.0
"""Share of the full cost that the paper's model with exit needs on ActivityNet, for a bundle without calibration."""


def main() -> None:
    """Report that the variant is loaded, then answer each line of input."""
    what = json.loads(sys.argv[1])
    if what["kind"] == "peak":
        answer = gpu_peaks() if what["device"] == "cuda" else peaks(what["threads"])
    else:
        answer = variant(what)
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(memory() if "memory" in request else answer(request)), flush=True)


def memory() -> dict[str, float]:
    """Megabytes of this process, on the processor's side and the device's."""
    return {"rss_mb": resident_megabytes(), "device_mb": graphics_megabytes(os.getpid())}


def gpu_peaks() -> Callable[[dict[str, Any]], dict[str, float]]:
    """Speed of a large matrix product in torch on the GPU."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    types = {"peak_fp32": torch.float32, "peak_fp16": torch.float16, "peak_bf16": torch.bfloat16}
    shape = (GPU_PEAK_SIDE, GPU_PEAK_SIDE)
    sides = {name: torch.randn(shape, device="cuda", dtype=dtype) for name, dtype in types.items()}
    print(json.dumps({"startup_s": 0}), flush=True)

    def product(name: str) -> None:
        torch.mm(sides[name], sides[name])
        torch.cuda.synchronize()

    def answer(_: dict[str, Any]) -> dict[str, float]:
        work = 2 * GPU_PEAK_SIDE**3 / 1e9
        return {name: work / min(_times(lambda name=name: product(name), PEAK_SECONDS / 2)) for name in types}

    return answer


def peaks(threads: int) -> Callable[[dict[str, Any]], dict[str, float]]:
    """Speed of a large matrix product in the fastest library here, in GFLOP/s; a multiply-add counts as two."""
    from adafocus.service.engine.runners.openvino import ov  # the runner disables its telemetry

    core = ov.Core()
    a, b = (ov.opset13.parameter([PEAK_SIDE, PEAK_SIDE], ov.Type.f32) for _ in range(2))
    model = ov.Model([ov.opset13.matmul(a, b, False, False)], [a, b])
    values = np.random.default_rng(0).random((PEAK_SIDE, PEAK_SIDE), dtype=np.float32)
    requests = {
        name: core.compile_model(
            model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1}
        ).create_infer_request()
        for name, hint in (("peak_fp32", "f32"), ("peak_bf16", "bf16"))
    }
    runs: dict[str, Callable[[], object]] = {
        name: lambda request=request: request.infer([values, values]) for name, request in requests.items()
    }
    runs["peak_int8"] = int8_product(threads)
    print(json.dumps({"startup_s": 0}), flush=True)

    def answer(_: dict[str, Any]) -> dict[str, float]:
        work = 2 * PEAK_SIDE**3 / 1e9
        return {name: work / min(_times(run, PEAK_SECONDS)) for name, run in runs.items()}

    return answer


def int8_product(threads: int) -> Callable[[], object]:
    """The same product of 8-bit numbers in ONNX Runtime, whose kernel uses the processor's dot products."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).integers(-100, 100, (PEAK_SIDE, PEAK_SIDE)).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, [PEAK_SIDE, PEAK_SIDE])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [PEAK_SIDE, PEAK_SIDE])],
        [numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    for entry, value in onnx_session_entries().items():
        options.add_session_config_entry(entry, value)
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = np.random.default_rng(1).integers(0, 255, (PEAK_SIDE, PEAK_SIDE), dtype=np.uint8)
    return lambda: session.run(None, {"a": values})


def variant(what: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, float]]:
    """A backend in a precision, or the plain torch forward."""
    begun = time.perf_counter()
    measure = torch_forward(what) if what["backend"] == "torch" else runner(what)
    print(json.dumps({"startup_s": time.perf_counter() - begun}), flush=True)
    return measure


def torch_forward(what: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, float]]:
    """The model's own forward over a batch of videos, as one would run it in torch."""
    import tempfile

    import torch

    from tests.parity import authors

    torch.set_num_threads(what["threads"])
    torch.backends.cudnn.allow_tf32 = False  # fp32 means fp32, as in the others
    half, device = what["precision"] == "fp16", what["device"]
    with tempfile.TemporaryDirectory() as folder:
        model = authors.load("act_mbv2_p128", authors.FRAME_CONFIGS["act_mbv2_p128"], Path(folder)).to(device)
    videos = authors.videos(1, 16).to(device)

    def answer(request: dict[str, Any]) -> dict[str, float]:
        frames = videos.expand(request["batch"], *videos.shape[1:]).contiguous()
        with torch.inference_mode(), torch.autocast(device, torch.float16, enabled=half):
            seconds = statistics.median(_times(lambda: model(frames).step_logits.cpu(), what["seconds"]))
        return {"video_ms": seconds * 1e3 / request["batch"]}

    return answer


def runner(what: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, float]]:
    """A bundle in the runner that serves it: each graph alone, and all steps of a video with carried states."""
    bundle = load_bundle(Path(what["bundle"]))
    options = RunnerOptions(what["threads"], tuple(what["batches"]), what["backend"], what["precision"])
    opened = open_runner(bundle, options)
    opened.warm_up()
    manifest = bundle.manifest
    random = np.random.default_rng(0)

    def answer(request: dict[str, Any]) -> dict[str, float]:
        batch = request["batch"]
        shape = (batch, manifest.geometry.crop, manifest.geometry.crop, 3)
        frames = [random.integers(0, 256, shape, dtype=np.uint8) for _ in range(manifest.steps)]
        policy = np.zeros((batch, opened.widths.policy), np.float32)
        pooled = np.zeros((batch, opened.widths.pooled), np.float32)
        step = np.zeros(batch, np.int64)
        seen = opened.glance(frames[0], policy)

        def video() -> None:
            policy_state, pooled_state = policy, pooled
            for number, frame in enumerate(frames):
                glance = opened.glance(frame, policy_state)
                focus = opened.focus(frame, glance.patch_centre, glance.feature, pooled_state, step + number)
                policy_state, pooled_state = glance.policy_state, focus.pooled_state

        if "point" in request:
            return {"point_videos_per_s": with_exit(bundle, opened, request["point"], batch)}
        seconds = what["seconds"]
        glance_s = _times(lambda: opened.glance(frames[0], policy), seconds)
        focus_s = _times(lambda: opened.focus(frames[0], seen.patch_centre, seen.feature, pooled, step), seconds)
        return {
            "glance_ms": statistics.median(glance_s) * 1e3 / batch,
            "focus_ms": statistics.median(focus_s) * 1e3 / batch,
            "video_ms": statistics.median(_times(video, seconds)) * 1e3 / batch,
        }

    return answer


class KeptOpen:
    """A runner that its engine may close and another may use."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> object:
        """Pass everything except `close` on to the runner."""
        return getattr(self._runner, name)

    def close(self) -> None:
        """Do nothing: another engine may still use the runner."""


def with_exit(bundle: Bundle, opened: Runner, point: str, batch: int) -> float:
    """Videos per second through the engine, which refills the rows of videos that have exited."""
    leaving = leaving_steps(bundle.manifest.served_in(opened.precision), point)
    rate, _, _ = asyncio.run(with_refill(bundle, KeptOpen(opened), leaving, batch))
    return rate


def leaving_steps(manifest: Manifest, point: str) -> list[int]:
    """The exit step of each of `VIDEOS` videos.

    The frequencies are those of the calibration split at the operating point. For a bundle without one, the mean step
    costs as much as the paper's model with exit on ActivityNet.
    """
    shares = np.array([], dtype=np.float64)
    if point in {known.name for known in manifest.operating_points}:
        shares = np.array(manifest.point(point).exit_shares or (), dtype=np.float64)
    if not shares.size:
        return exit_steps(VIDEOS, manifest.steps, PAPERS_SHARE * manifest.steps, seed=0)
    levels = (np.arange(VIDEOS) + 0.5) / VIDEOS  # evenly spaced quantiles: a drawn sample's own mean would wander
    leaving = np.searchsorted(np.cumsum(shares / shares.sum()), levels) + 1
    return [int(step) for step in np.random.default_rng(0).permutation(np.minimum(leaving, manifest.steps))]


def resident_megabytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def _times(run: Callable[[], object], seconds: float) -> list[float]:
    """Seconds of each run, repeated for that long and at least once, after a short warm-up run."""
    begun = time.perf_counter()
    run()
    found = [time.perf_counter() - begun]
    if found[0] < seconds:
        found.clear()
    while not found or sum(found) < seconds:
        begun = time.perf_counter()
        run()
        found.append(time.perf_counter() - begun)
    return found


if __name__ == "__main__":
    main()

"""The process behind a variant of `benchmarks.backends`: loads it, then measures whenever it is asked to.

python -m benchmarks.backend_worker '{"kind": "variant", …}'
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.refill import with_refill
from bundle.store import Bundle, load_bundle
from service.engine.runners.base import Runner
from service.engine.runners.choose import RunnerOptions, open_runner

SECONDS_PER_ROUND = 1.0
PEAK_SIDE = 2048
VIDEOS = 96


def main() -> None:
    """Say when loaded, then answer line by line."""
    what = json.loads(sys.argv[1])
    answer = peaks(what["threads"]) if what["kind"] == "peak" else variant(what)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


def peaks(threads: int) -> Callable[[dict[str, Any]], dict[str, float]]:
    """What a large matrix product reaches, as the fastest library here has it: GFLOP/s, a multiply-add counting two."""
    from service.engine.runners.openvino import ov  # which keeps it from telling anybody

    core = ov.Core()
    a, b = (ov.opset13.parameter([PEAK_SIDE, PEAK_SIDE], ov.Type.f32) for _ in range(2))
    model = ov.Model([ov.opset13.matmul(a, b, False, False)], [a, b])
    values = np.random.default_rng(0).random((PEAK_SIDE, PEAK_SIDE), dtype=np.float32)
    runs = {
        name: core.compile_model(
            model, "CPU", {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1}
        ).create_infer_request()
        for name, hint in (("peak_fp32", "f32"), ("peak_bf16", "bf16"))
    }
    print(json.dumps({"startup_s": 0, "rss_mb": 0}), flush=True)

    def answer(_: dict[str, Any]) -> dict[str, float]:
        work = 2 * PEAK_SIDE**3 / 1e9
        return {name: work / min(_times(lambda run=run: run.infer([values, values]))) for name, run in runs.items()}

    return answer


def variant(what: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, float]]:
    """A backend in a precision, or the plain torch forward."""
    begun = time.perf_counter()
    measure = torch_forward(what) if what["backend"] == "torch" else runner(what)
    print(json.dumps({"startup_s": time.perf_counter() - begun, "rss_mb": resident_megabytes()}), flush=True)
    return measure


def torch_forward(what: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, float]]:
    """The model's own forward over a batch of videos, as one would run it in torch."""
    import tempfile

    import torch

    from tests.parity import authors

    torch.set_num_threads(what["threads"])
    with tempfile.TemporaryDirectory() as folder:
        model = authors.load("act_mbv2_p128", authors.FRAME_CONFIGS["act_mbv2_p128"], Path(folder))
    videos = authors.videos(1, 16)

    def answer(ask: dict[str, Any]) -> dict[str, float]:
        frames = videos.expand(ask["batch"], *videos.shape[1:]).contiguous()
        with torch.inference_mode():
            seconds = statistics.median(_times(lambda: model(frames)))
        return {"video_ms": seconds * 1e3 / ask["batch"]}

    return answer


def runner(what: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, float]]:
    """A bundle in the runner that serves it: each graph alone, and all steps of a video with carried states."""
    bundle = load_bundle(Path(what["bundle"]))
    options = RunnerOptions(what["threads"], tuple(what["batches"]), what["backend"], what["precision"])
    opened = open_runner(bundle, options)
    opened.warm_up()
    manifest = bundle.manifest
    random = np.random.default_rng(0)

    def answer(ask: dict[str, Any]) -> dict[str, float]:
        batch = ask["batch"]
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

        if "point" in ask:
            return {"point_videos_per_s": with_exit(bundle, opened, ask["point"], batch)}
        glance_s = _times(lambda: opened.glance(frames[0], policy))
        focus_s = _times(lambda: opened.focus(frames[0], seen.patch_centre, seen.feature, pooled, step))
        return {
            "glance_ms": statistics.median(glance_s) * 1e3 / batch,
            "focus_ms": statistics.median(focus_s) * 1e3 / batch,
            "video_ms": statistics.median(_times(video)) * 1e3 / batch,
        }

    return answer


class KeptOpen:
    """A runner that its engine may close and another may use."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> object:
        """Everything but closing."""
        return getattr(self._runner, name)

    def close(self) -> None:
        """Not yet."""


def with_exit(bundle: Bundle, opened: Runner, point: str, batch: int) -> float:
    """Videos per second through the engine, leaving as often at each step as on the calibration split."""
    served = bundle.manifest.served_in(opened.precision)
    shares = np.array(served.point(point).exit_shares, dtype=np.float64)
    drawn = np.random.default_rng(0).choice(served.steps, VIDEOS, p=shares / shares.sum())
    leaving = [int(step) + 1 for step in drawn]
    rate, _, _ = asyncio.run(with_refill(bundle, KeptOpen(opened), leaving, batch))  # type: ignore[arg-type]
    return rate


def resident_megabytes() -> float:
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * 4096 / 1e6


def _times(run: Callable[[], object]) -> list[float]:
    """Seconds of each run, three or more, for about a second; the first is thrown away."""
    run()
    found: list[float] = []
    while len(found) < 3 or sum(found) < SECONDS_PER_ROUND:
        begun = time.perf_counter()
        run()
        found.append(time.perf_counter() - begun)
    return found


if __name__ == "__main__":
    main()

"""What the service adds to a request: HTTP, spooling, processes and scheduling, over decoding and the graphs alone.

A: the same clip, decoded and run in this process with the same decoder, graphs and exit rule, one after the other.
B: the same clip posted to an idle service on the loopback. A B A B; the medians' difference is the overhead.

Run ``python -m benchmarks.overhead [--rounds 100]``.
"""

from __future__ import annotations

import argparse
import io
import statistics
import time
from pathlib import Path

import httpx
import numpy as np

from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, running_service
from bundle.exit_rule import confidence, leaves
from bundle.store import Bundle, load_bundle
from service.cores import usable_cores
from service.engine.runners.base import Runner
from service.engine.runners.choose import RunnerOptions, open_runner
from video.decoder import FrameStream
from video.probe import open_video
from video.sampler import wanted_frames
from video.transform import Geometry


def alone(bundle: Bundle, runner: Runner, clip: bytes, point: str) -> None:
    """Classify one clip with nothing around it."""
    manifest = bundle.manifest
    sampling, thresholds = manifest.sampling, manifest.threshold_row(point)
    policy = np.zeros((1, runner.widths.policy), dtype=np.float32)
    pooled = np.zeros((1, runner.widths.pooled), dtype=np.float32)
    with open_video(io.BytesIO(clip)) as video:
        wanted = wanted_frames(
            video.index.frames, frames=sampling.frames, order=sampling.order, first_frame=sampling.first_frame
        )
        stream = FrameStream(video, wanted, Geometry(manifest.geometry.resize, manifest.geometry.crop))
        for step in range(manifest.steps):
            frame = stream.next()
            if frame is None:
                break
            pixels = frame.pixels[None]
            glance = runner.glance(pixels, policy)
            step_index = np.array([step], dtype=np.int64)
            focus = runner.focus(pixels, glance.patch_centre, glance.feature, pooled, step_index)
            policy, pooled = glance.policy_state, focus.pooled_state
            sure = confidence(focus.logits, manifest.exit_criterion, manifest.temperature)
            if leaves(sure, thresholds[step]).all():
                break
        stream.close()


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--clip", type=Path, default=ROOT / "samples" / "bridge_up.mp4")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "tank-state")
    ask = parser.parse_args()
    bundle, clip = load_bundle(ask.bundle), ask.clip.read_bytes()
    runner = open_runner(bundle, RunnerOptions(backend="onnxruntime-cpu", threads=usable_cores(), batch_sizes=(1,)))
    runner.warm_up()
    rows = []
    with running_service("--bundle", str(ask.bundle)) as service, httpx.Client(base_url=service.url) as http:
        for point in ("full", bundle.manifest.default_point):
            direct, served = [], []
            for _ in range(ask.rounds):
                begun = time.perf_counter()
                alone(bundle, runner, clip, point)
                between = time.perf_counter()
                http.post("/classify", content=clip, params={"exit": point}).raise_for_status()
                served.append(time.perf_counter() - between)
                direct.append(between - begun)
            added = statistics.median(served) - statistics.median(direct)
            rows.append(
                {
                    "model": f"{bundle.manifest.name}-{bundle.manifest.version}",
                    "exit": point,
                    "alone_ms": round(statistics.median(direct) * 1e3, 2),
                    "served_ms": round(statistics.median(served) * 1e3, 2),
                    "added_ms": round(added * 1e3, 2),
                    "rounds": ask.rounds,
                }
            )
            print(rows[-1], flush=True)
    print(write_results("overhead", "onnxruntime-cpu", rows))


if __name__ == "__main__":
    main()

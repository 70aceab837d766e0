"""Measures what the service adds to a request (HTTP, spooling, processes, scheduling) beyond decoding and the graphs.

A: the same clip is decoded and run in this process with the same decoder, graphs and exit rule, one after the other,
with one thread or one per processor, whichever is faster here. B: the same clip is posted to an idle service over
loopback and a bare socket, because a client's own time does not belong to the service. The order is A A B B A A B B,
and every second run counts: each way evicts the other's data from the processor's caches, which an idle service would
not experience. The added time is the difference of the medians. The script also reports the time added to the decoding
and graph times in the answer, which is less if one frame is decoded while the model runs on another. And it measures an
empty request, `GET /healthz`, right after another and after a pause: the difference is one wake-up of a sleeping
processor, and a classification has half a dozen.

Run ``python -m benchmarks.overhead [--rounds 100]``.
"""

from __future__ import annotations

import argparse
import io
import json
import socket
import statistics
import time
from pathlib import Path

import numpy as np

from adafocus.bundle.exit_rule import should_exit
from adafocus.bundle.store import Bundle, load_bundle
from adafocus.service.cpu import usable_cores
from adafocus.service.engine.runners.base import Runner
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from adafocus.video.decoder import FrameStream
from adafocus.video.probe import open_video
from adafocus.video.sampler import wanted_frames
from adafocus.video.transform import Geometry
from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, ServiceProcess, one_key_frame, running_service

PAUSE_SECONDS = 0.015


def alone(bundle: Bundle, runner: Runner, clip: bytes, point: str) -> None:
    """Classify one clip without the service."""
    manifest = bundle.manifest
    sampling, thresholds = manifest.sampling, manifest.threshold_row(point)
    policy = np.zeros((1, runner.widths.policy), dtype=np.float32)
    pooled = np.zeros((1, runner.widths.pooled), dtype=np.float32)
    with open_video(io.BytesIO(clip)) as video:
        wanted = wanted_frames(
            video.index.frames, frames=sampling.frames, order=sampling.order, first_frame=sampling.first_frame
        )
        stream = FrameStream(video, wanted, Geometry(**dict(manifest.geometry)))
        for step in range(manifest.steps):
            frame = stream.next()
            if frame is None:
                break
            pixels = frame.pixels[None]
            glance = runner.glance(pixels, policy)
            step_index = np.array([step], dtype=np.int64)
            focus = runner.focus(pixels, glance.patch_centre, glance.feature, pooled, step_index)
            policy, pooled = glance.policy_state, focus.pooled_state
            sure = manifest.exit_rule.confidence(focus.logits, step)
            if should_exit(sure, thresholds[step]).all():
                break
        stream.close()


class Client:
    """A persistent connection with a minimal HTTP client.

    Args:
        service: to which requests are sent.
    """

    def __init__(self, service: ServiceProcess) -> None:
        self._host = service.url.removeprefix("http://")
        host, port = self._host.split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def classify(self, clip: bytes, point: str) -> bytes:
        """The body of the response."""
        return self._ask(f"POST /classify?exit={point}", clip)

    def health(self, pause: float) -> float:
        """Seconds that a request for `/healthz` takes after a pause in seconds."""
        time.sleep(pause)
        begun = time.perf_counter()
        self._ask("GET /healthz", b"")
        return time.perf_counter() - begun

    def _ask(self, what: str, content: bytes) -> bytes:
        """The answer's body.

        Raises:
            RuntimeError: the status is not 200.
        """
        head = f"{what} HTTP/1.1\r\nHost: {self._host}\r\nContent-Length: {len(content)}\r\n\r\n"
        self._socket.sendall(head.encode() + content)
        answer = self._socket.recv(1 << 16)
        while b"\r\n\r\n" not in answer:
            answer += self._socket.recv(1 << 16)
        start, body = answer.split(b"\r\n\r\n", 1)
        lines = start.decode().lower().split("\r\n")
        if " 200 " not in lines[0]:
            raise RuntimeError(lines[0])
        length = next(int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        while len(body) < length:
            body += self._socket.recv(1 << 16)
        return body


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--clip", type=Path, help="default: a sample with a single key frame")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    options = parser.parse_args()
    bundle, clip = load_bundle(options.bundle), (options.clip.read_bytes() if options.clip else one_key_frame())
    runners = {}
    for threads in sorted({1, usable_cores()}):
        runners[threads] = open_runner(
            bundle, RunnerOptions(backend="onnxruntime-cpu", threads=threads, batch_sizes=(1,))
        )
        runners[threads].warm_up()
    rows = []
    with running_service("--bundle", str(options.bundle)) as service:
        client = Client(service)
        for point in ("full", bundle.manifest.default_point):
            direct: dict[int, list[float]] = {threads: [] for threads in runners}
            served, reported, awake, asleep = [], [], [], []
            for _ in range(options.rounds):
                for threads, runner in runners.items():
                    alone(bundle, runner, clip, point)
                    begun = time.perf_counter()
                    alone(bundle, runner, clip, point)
                    direct[threads].append(time.perf_counter() - begun)
                client.classify(clip, point)
                begun = time.perf_counter()
                answer = client.classify(clip, point)
                served.append(time.perf_counter() - begun)
                awake.append(client.health(0))
                asleep.append(client.health(PAUSE_SECONDS))
                timing = json.loads(answer)["timing_ms"]
                reported.append((timing["decode"] + timing["glance"] + timing["focus"]) / 1e3)
            threads, best = min(
                ((threads, statistics.median(seconds)) for threads, seconds in direct.items()), key=lambda pair: pair[1]
            )
            rows.append(
                {
                    "model": f"{bundle.manifest.name}-{bundle.manifest.version}",
                    "exit": point,
                    "alone_ms": round(best * 1e3, 2),
                    "alone_threads": threads,
                    "served_ms": round(statistics.median(served) * 1e3, 2),
                    "added_ms": round((statistics.median(served) - best) * 1e3, 2),
                    "added_to_reported_ms": round(
                        statistics.median(all_of_it - part for all_of_it, part in zip(served, reported, strict=True))
                        * 1e3,
                        2,
                    ),
                    "health_ms": round(statistics.median(awake) * 1e3, 2),
                    "health_after_pause_ms": round(statistics.median(asleep) * 1e3, 2),
                    "rounds": options.rounds,
                }
            )
            print(rows[-1], flush=True)
    print(write_results("overhead", "onnxruntime-cpu", rows))


if __name__ == "__main__":
    main()

"""Measures the time to the first event of a stream, compared with the whole answer without exit.

A: one sample clip with ``stream=true&exit=full``, to its first ``step`` and to its ``result``; B: without a stream.
A B A B; medians.

Run ``python -m benchmarks.first_step [--rounds 50] [--bundle FOLDER]``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import httpx

from adafocus.bundle.store import load_bundle
from benchmarks.machine import write_results
from benchmarks.service_process import ROOT, SAMPLES, one_key_frame, running_service


def streamed(http: httpx.Client, clip: bytes, frames: str) -> tuple[float, float]:
    """Seconds to the first event and to the end of the stream."""
    begun = time.perf_counter()
    first = 0.0
    options = {"exit": "full", "stream": "true", "frames": frames}
    with http.stream("POST", "/classify", content=clip, params=options) as answer:
        answer.raise_for_status()
        for line in answer.iter_lines():
            if not first and line.startswith("data: "):
                first = time.perf_counter() - begun
    return first, time.perf_counter() - begun


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    options = parser.parse_args()
    rounds, model = options.rounds, load_bundle(options.bundle).manifest.name
    clips = {path.name: path.read_bytes() for path in SAMPLES} | {"one_key_frame.mp4": one_key_frame()}
    rows = []
    with running_service("--bundle", str(options.bundle)) as service, httpx.Client(base_url=service.url) as http:
        for name, clip in clips.items():
            first, whole, plain, drawn = [], [], [], []
            for _ in range(rounds):
                to_first, to_end = streamed(http, clip, "false")
                first.append(to_first)
                whole.append(to_end)
                drawn.append(streamed(http, clip, "true")[0])
                begun = time.perf_counter()
                http.post("/classify", content=clip, params={"exit": "full"}).raise_for_status()
                plain.append(time.perf_counter() - begun)
            rows.append(
                {
                    "model": model,
                    "clip": name,
                    "first_step_ms": round(statistics.median(first) * 1e3, 2),
                    "first_step_with_frame_ms": round(statistics.median(drawn) * 1e3, 2),
                    "stream_ms": round(statistics.median(whole) * 1e3, 2),
                    "full_answer_ms": round(statistics.median(plain) * 1e3, 2),
                    "first_step_share": round(statistics.median(first) / statistics.median(plain), 3),
                    "rounds": rounds,
                }
            )
            print(rows[-1], flush=True)
    print(write_results("first_step", model, rows))


if __name__ == "__main__":
    main()

"""Every backend and precision against the plain torch forward of the same model, on this machine, in the same run.

Each variant runs in a process of its own, which sleeps while another is measured; the variants take turns (A B A B), so
that whatever else the machine does falls on all of them, and medians are reported. The models are actnet_mbv2_p128 with
the weights of the parity fixtures, quantised on their videos (for speed: such weights say nothing about accuracy), and
the shipped bundle's checkpoint if one is given.

    python -m benchmarks.backends [--rounds 5] [--batches 1 4 8] [--bundle DIR] [--actnet DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import write_results
from bundle.manifest import Manifest
from bundle.store import read_manifest

ROOT = Path(__file__).resolve().parent.parent
GIGA = 1e9

VARIANTS = (
    ("torch", "fp32"),
    ("torchscript", "fp32"),
    ("onnxruntime-cpu", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnxruntime-cpu", "int8"),
    ("openvino", "int8"),
)
PEAKS = {"fp32": "peak_fp32", "bf16": "peak_bf16", "int8": "peak_fp32"}


class Worker:
    """A variant in a process of its own: one JSON line in, one out."""

    def __init__(self, **what: object) -> None:
        arguments = [sys.executable, "-m", "benchmarks.backend_worker", json.dumps(what)]
        self._process = subprocess.Popen(
            arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **QUIET}
        )
        self.told = self._read()

    def ask(self, **what: object) -> dict[str, Any]:
        """Have something measured."""
        if self._process.stdin is None:
            raise RuntimeError("the worker cannot be asked")
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        if self._process.stdout is None:
            raise RuntimeError("the worker cannot answer")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)


QUIET = {"PYTHONWARNINGS": "ignore"}


@dataclass
class Measured:
    """What was measured of a variant at a batch size, once per round."""

    glance_ms: list[float] = field(default_factory=list)
    focus_ms: list[float] = field(default_factory=list)
    video_ms: list[float] = field(default_factory=list)
    point_videos_per_s: list[float] = field(default_factory=list)

    def add(self, answer: Mapping[str, float]) -> None:
        """Take a round's numbers in."""
        for name, value in answer.items():
            getattr(self, name).append(value)


def main() -> None:
    """Measure, print, and write the CSV."""
    options = _options()
    with ExitStack() as held:
        folder = options.actnet or Path(held.enter_context(tempfile.TemporaryDirectory())) / "actnet"
        if not (folder / "manifest.json").exists():
            subprocess.run([sys.executable, "-m", "benchmarks.actnet", str(folder)], check=True, cwd=ROOT)
        rows = measure(folder, options.batches, options.rounds, options.threads, torch_from="actnet")
        if options.bundle is not None:
            rows += measure(options.bundle, options.batches, options.rounds, options.threads, torch_from=None)
    print(markdown(rows))
    print(write_results("backends", "all", rows))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--actnet", type=Path, help="bundle of the recipe's weights, made there if it is not")
    parser.add_argument("--bundle", type=Path, help="another bundle, of every format and precision that it holds")
    return parser.parse_args()


def measure(
    bundle: Path, batches: Sequence[int], rounds: int, threads: int, torch_from: str | None
) -> list[dict[str, object]]:
    """A row for each variant that the bundle can be run in, and each batch size."""
    manifest = read_manifest(bundle)
    peak = Worker(kind="peak", threads=threads)
    peaks: dict[str, list[float]] = {}
    with ExitStack() as held:
        held.callback(peak.close)
        workers = {}
        for backend, precision in VARIANTS:
            if backend == "torch" and torch_from is None:
                continue
            if _held(manifest, backend, precision):
                worker = Worker(
                    kind="variant",
                    bundle=str(bundle),
                    backend=backend,
                    precision=precision,
                    threads=threads,
                    batches=list(batches),
                )
                held.callback(worker.close)
                workers[backend, precision] = worker
        found = {(*variant, batch): Measured() for variant in workers for batch in batches}
        for _ in range(rounds):
            for name, value in peak.ask().items():
                peaks.setdefault(name, []).append(value)
            for batch in batches:
                for variant, worker in workers.items():
                    found[(*variant, batch)].add(worker.ask(batch=batch))
                    if manifest.point(manifest.default_point).exit_shares and variant[0] != "torch":
                        found[(*variant, batch)].add(worker.ask(batch=batch, point=manifest.default_point))
            print(f"load average {os.getloadavg()[0]:.2f}", file=sys.stderr, flush=True)
        told = {variant: worker.told for variant, worker in workers.items()}
    best = {name: max(values) for name, values in peaks.items()}
    baseline = min((statistics.median(m.video_ms) for (b, *_), m in found.items() if b == "torch"), default=None)
    return [
        _row(manifest, variant, measured, told[variant[0], variant[1]], best, baseline, threads)
        for variant, measured in found.items()
    ]


def _held(manifest: Manifest, backend: str, precision: str) -> bool:
    held = {(graph.format, graph.precision) for graph in manifest.graphs}
    if backend == "torch":
        return True
    if backend == "torchscript":
        return ("torchscript", "fp32") in held
    return ("onnx", "int8" if precision == "int8" else "fp32") in held


def _row(
    manifest: Manifest,
    variant: tuple[str, str, int],
    measured: Measured,
    told: Mapping[str, float],
    peaks: Mapping[str, float],
    baseline: float | None,
    threads: int,
) -> dict[str, object]:
    backend, precision, batch = variant
    video_ms = statistics.median(measured.video_ms) if measured.video_ms else float("nan")
    rate = 2 * manifest.flops_full / GIGA / (video_ms / 1e3)
    peak = peaks[PEAKS[precision]]
    return {
        "model": manifest.name,
        "backend": backend,
        "precision": precision,
        "batch": batch,
        "threads": threads,
        "glance_ms": _median(measured.glance_ms),
        "focus_ms": _median(measured.focus_ms),
        "video_ms": round(video_ms, 2),
        "videos_per_s": round(1e3 / video_ms, 2),
        "videos_per_s_default_point": _median(measured.point_videos_per_s),
        "times_torch": round(baseline / video_ms, 2) if baseline else "",
        "gflops_per_s": round(rate, 1),
        "peak_gflops_per_s": round(peak, 1),
        "share_of_peak": round(rate / peak, 3),
        "startup_s": round(told["startup_s"], 2),
        "rss_mb": round(told["rss_mb"]),
        "rounds": len(measured.video_ms),
    }


def _median(values: Iterable[float]) -> object:
    listed = list(values)
    return round(statistics.median(listed), 3) if listed else ""


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """The table as docs/backends.md shows it."""
    columns = ("model", "backend", "precision", "batch", "glance_ms", "focus_ms", "videos_per_s")
    more = ("times_torch", "videos_per_s_default_point", "gflops_per_s", "share_of_peak", "rss_mb", "startup_s")
    lines = ["| " + " | ".join((*columns, *more)) + " |", "|" + "---|" * len((*columns, *more))]
    lines += ["| " + " | ".join(str(row[column]) for column in (*columns, *more)) + " |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

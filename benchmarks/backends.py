"""Compares every backend and precision with the plain torch forward of the same model on this machine, in one run.

Each variant runs in its own process, which sleeps while another is measured. The variants take turns (A B A B), so
that other load on the machine affects all of them, and medians are reported. The model is actnet_mbv2_p128 with the
weights of the parity fixtures, quantised on their videos (such weights allow no statement about accuracy), or any other
bundle, which is then not compared with torch.

A large matrix product in every precision, in the same rounds, measures the peak of the processor or GPU.

    python -m benchmarks.backends --name actnet [--bundle DIR] [--precisions fp32 bf16 int8] [--rounds 3]
    python -m benchmarks.backends --name sky --bundle bundles/sky
    python -m benchmarks.backends --name actnet-cuda --device cuda --batches 1 8 32 --bundle DIR

Without ``--bundle`` the one of actnet_mbv2_p128 is made first (minutes); ``python -m benchmarks.actnet DIR`` keeps it.
Then ``python -m benchmarks.backend_pages`` writes the tables and pictures of docs/backends.md.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import read_manifest
from adafocus.service.cpu import usable_cores
from benchmarks.backend_worker import leaving_steps
from benchmarks.machine import graphics, processor, write_results

ROOT = Path(__file__).resolve().parent.parent
GIGA = 1e9

Variant = tuple[str, str]

VARIANTS: tuple[Variant, ...] = (
    ("torch", "fp32"),
    ("torchscript", "fp32"),
    ("onnxruntime-cpu", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnxruntime-cpu", "int8"),
    ("openvino", "int8"),
)
GPU_VARIANTS: tuple[Variant, ...] = (
    ("torch", "fp32"),
    ("torch", "fp16"),
    ("torchscript", "fp32"),
    ("torchscript", "bf16"),
    ("onnxruntime-cuda", "fp32"),
    ("onnxruntime-cuda", "fp16"),
)
TORCH_BATCHES = (1, 4)
"""Of the baseline on a processor: larger ones are slower than these, and take minutes."""

DISTURBED = 0.05
"""Share of the processors that others may use while something is measured; else it is measured again."""

TRIES = 4

POINT = "balanced"


class Worker:
    """A variant in its own process: one JSON line in, one JSON line out."""

    def __init__(self, **what: object) -> None:
        arguments = [sys.executable, "-m", "benchmarks.backend_worker", json.dumps(what)]
        self._process = subprocess.Popen(
            arguments, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **QUIET}
        )
        self.reported = self._read()

    def ask(self, **what: object) -> dict[str, float]:
        """Request a measurement, and repeat it if other processes used the machine; ``others`` is their share."""
        answers = []
        for _ in range(TRIES):
            before = self._seconds()
            answer = self._asked(**what)
            wall, all_cpu, own_cpu = (now - then for now, then in zip(self._seconds(), before, strict=True))
            answers.append(answer | {"others": max(0.0, all_cpu - own_cpu) / wall / (os.cpu_count() or 1)})
            if answers[-1]["others"] <= DISTURBED:
                break
        return min(answers, key=lambda answer: answer["others"])

    def _seconds(self) -> tuple[float, float, float]:
        """Of the clock, of all processors' work, and of this worker's."""
        every = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:]
        busy = sum(int(every[index]) for index in (0, 1, 2, 5, 6, 7))  # user, nice, system, irq, softirq, steal
        own = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return time.perf_counter(), busy / ticks, (int(own[11]) + int(own[12])) / ticks

    def _asked(self, **what: object) -> dict[str, float]:
        if self._process.stdin is None:
            raise RuntimeError("the worker has no standard input")
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        if self._process.stdout is None:
            raise RuntimeError("the worker has no standard output")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with code {self._process.wait()}")
        answer: dict[str, float] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)


QUIET = {"PYTHONWARNINGS": "ignore"}


@dataclass
class Measured:
    """The measurements of a variant at a batch size, one per round."""

    glance_ms: list[float] = field(default_factory=list)
    focus_ms: list[float] = field(default_factory=list)
    video_ms: list[float] = field(default_factory=list)
    point_videos_per_s: list[float] = field(default_factory=list)
    others: list[float] = field(default_factory=list)

    def add(self, answer: Mapping[str, float]) -> None:
        """Add the measurements of one round."""
        for name, value in answer.items():
            getattr(self, name).append(value)


def main() -> None:
    """Measure, print, and write the CSV."""
    options = _options()
    with ExitStack() as held:
        folder = options.bundle
        if folder is None:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory())) / "actnet"
            subprocess.run([sys.executable, "-m", "benchmarks.actnet", str(folder)], check=True, cwd=ROOT)
        rows = measure(folder, options)
    print(markdown(rows))
    print(write_results("backends", options.name, rows, graphics() if options.device == "cuda" else ""))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True, help="Name of the CSV, for example actnet.")
    parser.add_argument("--bundle", type=Path, help="Bundle to measure; default: actnet_mbv2_p128.")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "fp16", "bf16", "int8"])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=0.4, help="Seconds for which each graph runs in each round.")
    parser.add_argument("--threads", type=int, default=usable_cores())
    return parser.parse_args()


def measure(bundle: Path, options: argparse.Namespace) -> list[dict[str, object]]:
    """A row for each variant that can run the bundle, and each batch size."""
    manifest = read_manifest(bundle)
    peaks: dict[str, list[float]] = {}
    with ExitStack() as held:
        peak = Worker(kind="peak", threads=options.threads, device=options.device)
        held.callback(peak.close)
        workers = {}
        for backend, precision in VARIANTS if options.device == "cpu" else GPU_VARIANTS:
            if is_held(manifest, backend, precision) and (backend == "torch" or precision in options.precisions):
                variant_options = {
                    "backend": backend,
                    "precision": precision,
                    "bundle": str(bundle),
                    "threads": options.threads,
                }
                variant_options |= {"batches": options.batches, "seconds": options.seconds, "device": options.device}
                worker = Worker(kind="variant", **variant_options)
                held.callback(worker.close)
                workers[backend, precision] = worker
        found = {
            (*variant, batch): Measured()
            for batch in options.batches
            for variant in workers
            if variant[0] != "torch" or options.device == "cuda" or batch in TORCH_BATCHES
        }
        for _ in range(options.rounds):
            for name, value in peak.ask().items():
                peaks.setdefault(name, []).append(value)
            for variant, measured in found.items():
                backend, precision, batch = variant
                worker = workers[backend, precision]
                measured.add(worker.ask(batch=batch))
                if backend != "torch":
                    measured.add(worker.ask(batch=batch, point=POINT))
            worst = max(max(measured.others) for measured in found.values())
            print(f"a round done; others used up to {worst:.0%} of the processors", file=sys.stderr, flush=True)
        reported = {variant: worker.reported | worker.ask(memory=True) for variant, worker in workers.items()}
    highest = {name: max(values) for name, values in peaks.items() if name.startswith("peak_")}
    machine = Machine(options.threads, highest, graphics() if options.device == "cuda" else processor())
    plain = [m for (b, precision, _), m in found.items() if (b, precision) == ("torch", "fp32")]
    torch = min((statistics.median(measured.video_ms) for measured in plain), default=None)
    return [
        _row(manifest, variant, measured, reported[variant[0], variant[1]], machine, torch)
        for variant, measured in found.items()
    ]


@dataclass(frozen=True)
class Machine:
    """The machine: number of threads, GFLOP/s of the largest products, and the name of the device."""

    threads: int
    peaks: Mapping[str, float]
    name: str


def is_held(manifest: Manifest, backend: str, precision: str) -> bool:
    """Whether a bundle has the graphs that a variant reads."""
    held = {(graph.format, graph.precision) for graph in manifest.graphs}
    if backend == "torch":
        return manifest.name == "actnet_mbv2_p128"  # whose weights the fixtures' recipe makes
    if backend == "torchscript":
        return ("torchscript", "fp32") in held
    return ("onnx", "fp32" if precision == "bf16" else precision) in held


def _row(
    manifest: Manifest,
    variant: tuple[str, str, int],
    measured: Measured,
    reported: Mapping[str, float],
    machine: Machine,
    torch_ms: float | None,
) -> dict[str, object]:
    backend, precision, batch = variant
    video_ms = statistics.median(measured.video_ms)
    peak = machine.peaks[f"peak_{precision}"]

    def rate(flops: float, ms: float) -> float:
        return 2 * flops / GIGA / (ms / 1e3)

    def share(flops: int, ms: Sequence[float]) -> object:
        return round(rate(flops, statistics.median(ms)) / peak, 3) if ms else ""

    return {
        "model": manifest.name,
        "backend": backend,
        "precision": precision,
        "batch": batch,
        "threads": machine.threads,
        "glance_ms": _median(measured.glance_ms),
        "focus_ms": _median(measured.focus_ms),
        "video_ms": round(video_ms, 2),
        "videos_per_s": round(1e3 / video_ms, 2),
        "videos_per_s_balanced": _median(measured.point_videos_per_s),
        "balanced_mean_step": round(statistics.mean(leaving_steps(manifest, POINT)), 2) if backend != "torch" else "",
        "times_torch": round(torch_ms / video_ms, 2) if torch_ms else "",
        "gflops_per_s": round(rate(manifest.flops_full, video_ms), 1),
        "peak_gflops_per_s": round(peak, 1),
        "share_of_peak": round(rate(manifest.flops_full, video_ms) / peak, 3),
        "glance_share_of_peak": share(manifest.flops.glance, measured.glance_ms),
        "focus_share_of_peak": share(manifest.flops.focus, measured.focus_ms),
        "startup_s": round(reported["startup_s"], 2),
        "rss_mb": round(reported["rss_mb"]),
        "device_mb": "" if math.isnan(reported["device_mb"]) else round(reported["device_mb"]),
        "rounds": len(measured.video_ms),
        "others_share": round(max(measured.others), 3),
        "video_ms_each": " ".join(f"{value:.1f}" for value in measured.video_ms),
        "processor": machine.name,
    }


def _median(values: Iterable[float]) -> object:
    listed = list(values)
    return round(statistics.median(listed), 3) if listed else ""


def markdown(rows: Sequence[Mapping[str, object]]) -> str:
    """The measurements as a Markdown table, to be printed."""
    columns = ("backend", "precision", "batch", "glance_ms", "focus_ms", "videos_per_s", "videos_per_s_balanced")
    more = (
        "times_torch",
        "gflops_per_s",
        "share_of_peak",
        "focus_share_of_peak",
        "rss_mb",
        "startup_s",
        "others_share",
        "video_ms_each",
    )
    shown = (*columns, *more)
    lines = ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
    lines += ["| " + " | ".join(str(row[column]) for column in shown) + " |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""Capacity on paper: what a rate of videos needs, computed from measured figures in ``benchmarks/results``.

Nothing is measured here. A design is what one video costs: processor time of the service process, of the decoders and
of the graphs, and time of a GPU. Where a figure was measured for one and for eight frames, it is taken as linear.

Run ``python -m benchmarks.capacity_plan [--rate 500] [--clip-bytes 5e6] [--decode-ms 120]``.
"""

from __future__ import annotations

import argparse
import math
import tomllib
from dataclasses import dataclass, replace

from benchmarks.machine import newest_results
from benchmarks.service_process import ROOT

BUSY = 0.7
"""Share of the time that a process, a core or a GPU may be busy; the autoscaler aims at the same."""

RATES = (1, 10, 1_000, 100_000)
FEWEST_REPLICAS = 2
STEPS_MEASURED = 8
PAPER_STEPS = 16
DEVICE, PRECISION, BATCH = "NVIDIA H200", "fp16", "32"


@dataclass(frozen=True)
class Design:
    """What one video costs.

    Attributes:
        name: as the tables call it.
        service_ms: processor time of the service process beyond the graphs. One process has at most one core for it.
        decode_ms: processor time of the decoders.
        graphs_ms: processor time of the graphs.
        gpu_ms: time of a GPU, with what the engine leaves unused.
    """

    name: str
    service_ms: float
    decode_ms: float
    graphs_ms: float = 0.0
    gpu_ms: float = 0.0

    @property
    def core_ms(self) -> float:
        """Processor time of a video."""
        return self.service_ms + self.decode_ms + self.graphs_ms


@dataclass(frozen=True)
class Need:
    """What a rate of videos needs."""

    processes: int
    cores: int
    gpus: int
    gigabits_per_s: float
    videos_tb_per_day: float
    rows_gb_per_day: float


def need(design: Design, rate: float, clip_bytes: float, row_bytes: float) -> Need:
    """The service processes, cores, GPUs, network and storage for a rate of videos a second."""

    def units(milliseconds: float) -> int:
        return math.ceil(round(rate * milliseconds / 1e3 / BUSY, 9))

    per_day = rate * 86_400
    return Need(
        processes=max(FEWEST_REPLICAS, units(design.service_ms), units(design.gpu_ms)),
        cores=max(FEWEST_REPLICAS, units(design.core_ms)),
        gpus=max(FEWEST_REPLICAS, units(design.gpu_ms)) if design.gpu_ms else 0,
        gigabits_per_s=rate * clip_bytes * 8 / 1e9,
        videos_tb_per_day=per_day * clip_bytes / 1e12,
        rows_gb_per_day=per_day * row_bytes / 1e9,
    )


def designs() -> dict[str, tuple[Design, Design]]:
    """Each model on each kind of host: with the conditional exit, and as uniform full-frame inference."""
    return {"small": small_model(), "paper on processors": paper_on_processors(), "paper on GPUs": paper_on_gpus()}


def small_model() -> tuple[Design, Design]:
    """A small model on processors, `tank-state`, and its focus network alone on whole frames."""
    http = {row["exit"]: row for row in newest_results("http-cost", "tank-state")}
    whole = _mflops("full") / _mflops("learned")
    return (
        Design(
            "small model (`tank-state`), `balanced`",
            float(http["balanced"]["service_ms"]),
            _decode_ms(1),
            graphs_ms=float(http["balanced"]["graphs_ms"]),
        ),
        Design(
            "… uniform, whole frames",
            float(http["balanced"]["service_ms"]),
            _decode_ms(STEPS_MEASURED),
            graphs_ms=float(http["full"]["graphs_ms"]) * whole,
        ),
    )


def paper_on_processors() -> tuple[Design, Design]:
    """The paper's model on processors with the fastest runtime, and its focus network on whole frames."""
    rows = [row for row in newest_results("backends", "actnet") if row["videos_per_s_balanced"]]
    best = max(rows, key=lambda row: float(row["videos_per_s_balanced"]))
    threads, steps = float(best["threads"]), float(best["balanced_mean_step"])
    whole_ms = float(best["focus_ms"]) * PAPER_STEPS * _areas() * threads
    return (
        Design(
            f"paper's model, {best['backend']} {best['precision']}, step {steps:g} of {PAPER_STEPS}",
            _service_ms(steps),
            _decode_ms(steps),
            graphs_ms=threads * 1e3 / float(best["videos_per_s_balanced"]),
        ),
        Design("… uniform, whole frames", _service_ms(1), _decode_ms(PAPER_STEPS), graphs_ms=whole_ms),
    )


def paper_on_gpus() -> tuple[Design, Design]:
    """The paper's model on an H200, and its focus network on whole frames with a GPU that is never kept waiting."""
    steps = max(float(row["balanced_mean_step"] or 0) for row in newest_results("backends", "actnet"))
    rows = [
        row
        for row in newest_results("device-graphs")
        if (row["device"], row["precision"], row["batch"], row["note"]) == (DEVICE, PRECISION, BATCH, "")
    ]
    (row,) = rows
    frame_ms = 1e3 / float(row["frames_per_s"])
    whole_ms = float(row["focus_ms"]) / int(BATCH) * PAPER_STEPS * _areas()
    return (
        Design(
            f"paper's model, H200 fp16, step {steps:g} of {PAPER_STEPS}",
            _service_ms(steps),
            _decode_ms(steps),
            gpu_ms=steps * frame_ms / _engine_share(),
        ),
        Design("… uniform, whole frames", _service_ms(1), _decode_ms(PAPER_STEPS), gpu_ms=whole_ms),
    )


def sizes() -> tuple[float, float]:
    """Bytes of a sample clip, and of its row in Parquet."""
    row = next(row for row in newest_results("batch-cost") if "parquet" in row["command"])
    return float(row["bytes_per_clip"]), float(row["bytes_per_row"])


def _between(one: float, eight: float, frames: float) -> float:
    """What is linear in the number of frames, from its values for one and for eight."""
    return one + (frames - 1) * (eight - one) / (STEPS_MEASURED - 1)


def _service_ms(steps: float) -> float:
    http = {row["exit"]: float(row["service_ms"]) for row in newest_results("http-cost", "tank-state")}
    return _between(http["balanced"], http["full"], steps)


def _decode_ms(frames: float) -> float:
    worker = {
        row["exit"]: float(row["worker_ms"]) for row in newest_results("decoder-cost") if row["clips"] == "samples"
    }
    return _between(worker["balanced"], worker["full"], frames)


def _engine_share() -> float:
    """The share of the device's own rate that the engine reached, where its core ran best."""
    rows = [*newest_results("simulated_device", "thread"), *newest_results("simulated_device", "process")]
    return max(float(row["share"]) for row in rows if (row["device"], row["batch"]) == ("h200-fp16", BATCH))


def _mflops(arm: str) -> float:
    rows = newest_results("evidence")
    return next(float(row["mflops_per_video"]) for row in rows if (row["data"], row["arm"]) == ("tank_state", arm))


def _areas() -> float:
    """How many times larger a whole frame of the paper's model is than its patch."""
    configs = ROOT / "training" / "configs"
    frame = tomllib.loads((configs / "_frame.toml").read_text(encoding="utf-8"))["model"]["frame_size"]
    patch = tomllib.loads((configs / "actnet_mbv2_p128.toml").read_text(encoding="utf-8"))["model"]["patch_size"]
    return float(frame / patch) ** 2


def main() -> None:
    """Print what rates need, with other clips if options say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=RATES, help="videos per second")
    parser.add_argument("--clip-bytes", type=float, help="size of a video; default: that of the sample clips")
    parser.add_argument("--decode-ms", type=float, help="processor time of decoding a video; default: as measured")
    options = parser.parse_args()
    clip_bytes, row_bytes = sizes()
    for design, uniform in designs().values():
        for each in (design, uniform):
            own = each if options.decode_ms is None else replace(each, decode_ms=options.decode_ms)
            print(own)
            for rate in options.rate:
                print(f"  {rate:g}/s: {need(own, rate, options.clip_bytes or clip_bytes, row_bytes)}")


if __name__ == "__main__":
    main()

"""Measures a service end to end (uploads, decoding, graphs and early exit) with several numbers of clients.

It is a closed loop: each client waits for its answer before it sends the next request. A separate process on the same
machine sends the clips over loopback.

    python -m benchmarks.throughput --bundle DIR --backend onnxruntime-cuda --precision fp16 [--exits full balanced]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from adafocus.bundle.store import read_manifest
from adafocus.service.cpu import usable_cores
from benchmarks.machine import graphics, processor, write_results
from benchmarks.service_process import ROOT, running_service


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path, nargs="*", default=[ROOT / "samples"])
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    parser.add_argument("--backend", default="onnxruntime-cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--exits", nargs="+", default=["full", "balanced"], help="operating points")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 32])
    parser.add_argument("--requests", type=int, default=400, help="of each measurement with several clients")
    parser.add_argument("--max-batch", type=int, default=32)
    options = parser.parse_args()
    name = read_manifest(options.bundle).name
    device = graphics() if options.backend == "onnxruntime-cuda" else ""
    environment = {
        "ADAFOCUS_PRECISION": options.precision,
        "ADAFOCUS_MAX_BATCH": str(options.max_batch),
        "ADAFOCUS_DRAIN_GRACE_SECONDS": "0",
    }
    rows = []
    service_options = ("--bundle", str(options.bundle), "--backend", options.backend)
    with running_service(*service_options, environment=environment) as service:
        load(
            service.url, options.clips, "full", max(options.clients), 2 * max(options.clients)
        )  # warm up every decoder
        for point in options.exits:
            for clients in options.clients:
                requests = options.requests if clients > 1 else max(50, options.requests // 8)
                report = load(service.url, options.clips, point, clients, requests)
                rows.append(
                    {
                        "bundle": name,
                        "backend": options.backend,
                        "precision": options.precision,
                        "exit": point,
                        "clients": clients,
                        "answers_per_s": round(report["throughput"], 1),
                        **{f"{key}_ms": round(value, 1) for key, value in report["latency_ms"].items()},
                        "share_of_full": round(report["share_of_full"], 3),
                        "statuses": " ".join(f"{status}:{count}" for status, count in report["statuses"].items()),
                        "requests": requests,
                        "max_batch": options.max_batch,
                        "cores": usable_cores(),
                        "ready_s": round(service.seconds_to_ready, 1),
                        "processor": device or processor(),
                    }
                )
                print(rows[-1], flush=True)
    print(write_results("throughput", f"{name}-{options.precision}_{options.backend}", rows, device))


def load(url: str, clips: list[Path], point: str, clients: int, requests: int) -> dict[str, dict[str, float]]:
    """The report of `adafocus bench`."""
    program = Path(sys.executable).with_name("adafocus")
    what = ["--url", url, "--exit", point, "--concurrency", str(clients), "--requests", str(requests), "--json"]
    ran = subprocess.run([program, "bench", *what, *clips], check=True, capture_output=True, text=True)
    return json.loads(ran.stdout)


if __name__ == "__main__":
    main()

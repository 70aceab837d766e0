"""Measures the time to ready of a service with each backend and precision, and the memory of one and of two.

Memory is the proportional set size of the services, which splits shared pages between them, without the decode workers.
A first start brings the files into the system's cache, as on a serving machine, and fills the model cache if there is
one; its time is reported separately.

    python -m benchmarks.services --bundle DIR … [--starts 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from adafocus.bundle.store import read_manifest
from benchmarks.backends import VARIANTS, is_held
from benchmarks.machine import processor, write_results
from benchmarks.service_process import ROOT, proportional_megabytes, running_service


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, nargs="+", default=[ROOT / "bundles" / "sky"])
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for bundle in options.bundle:
        manifest = read_manifest(bundle)
        for backend, precision in VARIANTS:
            if backend != "torch" and is_held(manifest, backend, precision):
                for cached in (False, True) if backend != "torchscript" else (False,):
                    row = {"bundle": manifest.name, "backend": backend, "precision": precision}
                    measured = measure(bundle, backend, precision, options.starts, cached=cached)
                    rows.append(row | measured | {"processor": processor()})
                    print(rows[-1], flush=True)
    print(write_results("services", "all", rows))


def measure(bundle: Path, backend: str, precision: str, starts: int, *, cached: bool) -> dict[str, object]:
    """Median seconds to ready; megabytes of one service, and of two that run at the same time."""
    options = ("--bundle", str(bundle), "--backend", backend)
    seconds, alone = [], []
    with ExitStack() as held:
        environment = {"ADAFOCUS_PRECISION": precision, "ADAFOCUS_DRAIN_GRACE_SECONDS": "0"}
        if cached:
            environment["ADAFOCUS_MODEL_CACHE"] = held.enter_context(tempfile.TemporaryDirectory())
        with running_service(*options, environment=environment) as service:
            first = service.seconds_to_ready
        for _ in range(starts):
            with running_service(*options, environment=environment) as service:
                seconds.append(service.seconds_to_ready)
                alone.append(proportional_megabytes(service.pid))
        both = [held.enter_context(running_service(*options, environment=environment)) for _ in range(2)]
        two = sum(proportional_megabytes(service.pid) for service in both)
    return {
        "model_cache": "yes" if cached else "no",
        "first_start_s": round(first, 2),
        "seconds_to_ready": round(statistics.median(seconds), 2),
        "starts": starts,
        "one_mb": round(statistics.median(alone)),
        "two_mb": round(two),
    }


if __name__ == "__main__":
    main()

"""A stand-in for NVIDIA's exporter with one GPU: the counters of docker/dcgm-counters.csv with made-up values."""

from __future__ import annotations

import http.server
import time
from pathlib import Path

PORT = 9400
LABELS = 'gpu="0",UUID="GPU-00000000-0000-0000-0000-000000000000",device="nvidia0",modelName="stand-in",Hostname="none"'
LEVELS = {
    "DCGM_FI_DEV_GPU_UTIL": 37,
    "DCGM_FI_DEV_MEM_COPY_UTIL": 12,
    "DCGM_FI_DEV_FB_USED": 2048,
    "DCGM_FI_DEV_FB_FREE": 14336,
    "DCGM_FI_DEV_GPU_TEMP": 54,
    "DCGM_FI_DEV_POWER_USAGE": 88,
    "DCGM_FI_DEV_SM_CLOCK": 1410,
    "DCGM_FI_DEV_XID_ERRORS": 0,
    "DCGM_FI_DEV_PCIE_REPLAY_COUNTER": 0,
}


def exposition(counters: str, now: float) -> str:
    """The page of metrics for the listed counters. Energy grows with time; all other values are constant."""
    lines = []
    for line in counters.splitlines():
        if line.strip() and not line.startswith("#"):
            name, kind, text = (part.strip() for part in line.split(",", 2))
            value = LEVELS.get(name, now * 88_000)
            lines += [f"# HELP {name} {text}", f"# TYPE {name} {kind}", f"{name}{{{LABELS}}} {value}"]
    return "\n".join(lines) + "\n"


class Exporter(http.server.BaseHTTPRequestHandler):
    """Serves the page of metrics at every path."""

    def do_GET(self) -> None:
        """Send the page."""
        counters = Path("/counters.csv").read_text(encoding="utf-8")
        body = exposition(counters, time.time()).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


if __name__ == "__main__":
    http.server.ThreadingHTTPServer(("0.0.0.0", PORT), Exporter).serve_forever()  # noqa: S104 - inside a container

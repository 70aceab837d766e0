"""Serving opens no connection that was not configured: neither this code nor the libraries that it loads.

Libraries connect in their own machine code, where nothing in Python would notice, so the system calls are recorded.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from tests.conftest import ROOT
from tests.e2e.tiny import write_tiny_bundle

SAMPLE = ROOT / "samples" / "drone.mp4"
BACKENDS = {"onnxruntime-cpu": "onnxruntime", "openvino": "openvino"}
PATIENCE_SECONDS = 120.0

needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (Debian's package strace)")

# An address of the internet, or a local service that looks names up in it. (libc asks nscd for users and groups.)
_OUTWARD = re.compile(r"(connect|sendto|sendmsg|sendmmsg)\(.*(sin_port|sin6_port|resolve|systemd|dbus)")


def calls_outward(trace: str) -> list[str]:
    """Lines of a trace of system calls that reach out."""
    return [line for line in trace.splitlines() if _OUTWARD.search(line)]


def test_the_recorder_sees_what_it_should() -> None:
    assert calls_outward('1 connect(3, {sa_family=AF_INET, sin_port=htons(443), sin_addr=inet_addr("192.0.2.1")}, 16)')
    assert calls_outward('1 sendto(3, "…", 40, 0, {sa_family=AF_INET6, sin6_port=htons(53)}, 28) = 40')
    assert calls_outward('1 connect(5, {sa_family=AF_UNIX, sun_path="/run/systemd/resolve/io.systemd.Resolve"}, 42)')
    assert not calls_outward('1 sendmsg(9, {msg_name=NULL, msg_iov=[{iov_base="{…}"}], msg_controllen=24}, 0) = 90')
    assert not calls_outward("1 accept4(7, {sa_family=AF_INET, sin_port=htons(40000)}, [16], SOCK_CLOEXEC) = 11")


@needs_strace
@pytest.mark.parametrize("backend", BACKENDS)
def test_serving_calls_nobody_and_leaves_no_file(backend: str, tmp_path: Path) -> None:
    if find_spec(BACKENDS[backend]) is None:
        pytest.skip(f"needs {BACKENDS[backend]}, which is not installed")
    bundle, scratch, trace = tmp_path / "bundle", tmp_path / "scratch", tmp_path / "trace"
    write_tiny_bundle(bundle)
    scratch.mkdir()
    command = [
        sys.executable,
        "-m",
        "adafocus.cli.main",
        "serve",
        "--bundle",
        str(bundle),
        "--port",
        "0",
        "--backend",
        backend,
    ]
    recorder = ["strace", "-f", "-qq", "-e", "trace=%network", "-s", "64", "-o", str(trace)]
    environment = {
        **os.environ,
        "TMPDIR": str(scratch),
        "ADAFOCUS_DECODE_WORKERS": "1",
        "ADAFOCUS_DRAIN_GRACE_SECONDS": "0",
    }
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen([*recorder, *command], stderr=log, env=environment, cwd=ROOT, start_new_session=True)
        try:
            url = _url_when_ready(process, tmp_path / "log")
            answer = httpx.post(f"{url}/classify", content=SAMPLE.read_bytes(), timeout=PATIENCE_SECONDS)
            assert answer.status_code == 200, answer.text
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=PATIENCE_SECONDS)
    recorded = trace.read_text(errors="replace")
    assert "accept4(" in recorded or "accept(" in recorded, "the recorder saw nothing"
    assert calls_outward(recorded) == []
    assert list(scratch.iterdir()) == []


def _url_when_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    ends = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < ends and process.poll() is None:
        found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
        if found and '"message": "ready"' in log.read_text():
            return found[0]
        time.sleep(0.05)
    raise AssertionError(log.read_text())

"""`adafocus serve` as a process: how it starts, how it refuses to, and how it ends."""

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.tiny import write_clip, write_tiny_bundle

START_SECONDS = 60.0


class Process:
    """A server process, and what it has logged."""

    def __init__(self, popen: "subprocess.Popen[str]") -> None:
        self.popen = popen
        self._logged: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def until(self, message: str) -> dict[str, Any]:
        """The next line of the log with that message."""
        while (text := self._logged.get(timeout=START_SECONDS)) is not None:
            line: dict[str, Any] = json.loads(text)
            if line["message"] == message:
                return line
        raise AssertionError(f"it ended, and never said {message!r}")

    def end(self) -> None:
        """Make sure that it has ended."""
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait(timeout=30)
        self._reader.join(timeout=30)
        if self.popen.stderr is not None:
            self.popen.stderr.close()

    def _read(self) -> None:
        for text in self.popen.stderr or ():
            self._logged.put(text)
        self._logged.put(None)


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "adafocus.cli.main", "serve", *(str(argument) for argument in arguments)]


@contextmanager
def server(root: Path, *arguments: object, **environment: str) -> Iterator[tuple[Process, str]]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "ADAFOCUS_DECODE_WORKERS": "1", **environment}
    popen = subprocess.Popen(
        command("--port", 0, *arguments),
        cwd=root,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    process = Process(popen)
    try:
        url = str(process.until("listening")["url"])
        process.until("ready")
        yield process, url
    finally:
        process.end()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "bright.mp4", "bright").read_bytes()


def test_it_serves_and_ends_with_0(project_root: Path, bundle: Path, clip: bytes) -> None:
    with (
        server(project_root, "--bundle", bundle, ADAFOCUS_DRAIN_GRACE_SECONDS="0") as (process, url),
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        answer = client.post("/classify", files={"video": clip}, headers={"X-Request-ID": "first"})
        assert answer.json()["predictions"][0]["label"] == "bright"
        line = process.until("request")
        assert (line["request_id"], line["outcome"], line["status"]) == ("first", "ok", 200)
        assert line["gflops"] == answer.json()["compute"]["gflops"]
        process.popen.send_signal(signal.SIGTERM)
        assert process.popen.wait(timeout=30) == 0


def test_a_bundle_that_is_written_over_is_served_and_a_bad_one_is_not(
    project_root: Path, tmp_path: Path, clip: bytes
) -> None:
    folder = tmp_path / "bundles"
    for name in ("one", "two"):
        write_tiny_bundle(folder / name)
    with (
        server(project_root, "--bundles", folder, ADAFOCUS_BUNDLES_POLL_SECONDS="0.05") as (process, url),
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):

        def version_of(name: str) -> str:
            answer = client.post("/classify", params={"model": name}, content=clip)
            return str(answer.json()["model"]["version"])

        assert (version_of("one"), version_of("two")) == ("1.0", "1.0")
        write_tiny_bundle(folder / "two", version="2.0")
        line = process.until("a model is loaded")
        assert (line["model"], line["version"], line["replaces"]) == ("two", "2.0", "1.0")
        assert (version_of("one"), version_of("two")) == ("1.0", "2.0")
        process.until("an old version of a model is closed")
        (folder / "two" / "focus.onnx").write_bytes(b"no graph")
        line = process.until("a bundle is refused")
        assert (line["model"], line["version_that_goes_on"]) == ("two", "2.0")
        assert "focus.onnx: has 8 bytes" in line["reason"]
        assert version_of("two") == "2.0"
        write_tiny_bundle(folder / "three")
        assert process.until("a model is loaded")["model"] == "three"
        assert version_of("three") == "1.0"


def test_what_does_not_go_with_a_folder_of_bundles(project_root: Path, tmp_path: Path, bundle: Path) -> None:
    folder = bundle.parent
    both = refused(project_root, "--bundles", folder, "--bundle", bundle, code=2)
    assert "--bundle and --bundles exclude each other" in both
    assert "must be 1 with a folder of bundles" in refused(project_root, "--bundles", folder, "--fronts", 2)
    (tmp_path / "empty").mkdir()
    assert "holds no bundle" in refused(project_root, "--bundles", tmp_path / "empty")


def test_sigterm_turns_readiness_off_goes_on_accepting_and_finishes_what_is_in_flight(
    project_root: Path, bundle: Path, clip: bytes
) -> None:
    with (
        server(project_root, "--bundle", bundle, ADAFOCUS_DRAIN_GRACE_SECONDS="3") as (process, url),
        httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
    ):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as slow:
            slow.sendall(f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(clip)}\r\n\r\n".encode())
            slow.sendall(clip[:100])
            process.popen.send_signal(signal.SIGTERM)
            process.until("draining")
            assert client.get("/readyz").status_code == 503
            assert client.get("/healthz").status_code == 200
            assert client.post("/classify", content=clip).status_code == 200
            assert process.popen.poll() is None
            process.until("rejecting new requests")
            slow.sendall(clip[100:])
            answer = b""
            while block := slow.recv(65536):
                answer += block
        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"label":"bright"' in answer
        assert process.popen.wait(timeout=30) == 0


def test_who_asks_nothing_is_hung_up_on_and_who_uploads_is_not(project_root: Path, bundle: Path, clip: bytes) -> None:
    """Each of these would otherwise hold a descriptor for as long as it likes."""
    health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    upload = f"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: {len(clip)}\r\n\r\n".encode()
    with server(project_root, "--bundle", bundle, ADAFOCUS_UPLOAD_TIMEOUT_SECONDS="0.5") as (_, url):
        host, port = url.removeprefix("http://").split(":")

        def said(*parts: bytes) -> bytes:
            heard = b""
            with socket.create_connection((host, int(port)), timeout=30) as connection:
                for part in parts:
                    connection.sendall(part)
                    while part is health and b"alive" not in heard:
                        heard += connection.recv(65536)
                while block := connection.recv(65536):
                    heard += block
            return heard

        assert said() == b""
        assert said(b"GET /healthz HTTP/1.1\r\nHo") == b""
        assert said(health).startswith(b"HTTP/1.1 200")
        assert said(health, b"GET /healthz HTTP/1.1\r\nHo").count(b"HTTP/1.1") == 1
        assert said(upload + clip + health).count(b"HTTP/1.1 200") == 2, "pipelined"
        assert said(upload + clip[:100]).startswith(b"HTTP/1.1 408"), "a body's silence has an answer of its own"


def refused(root: Path, *arguments: object, code: int = 1) -> str:
    done = subprocess.run(command(*arguments), cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert line.startswith("adafocus: ")
    return line


def test_a_port_that_is_taken(project_root: Path, bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused(project_root, "--bundle", bundle, "--port", port)
    assert str(port) in line
    assert "--port" in line


def test_a_bundle_that_is_not_there(project_root: Path, tmp_path: Path) -> None:
    assert "manifest.json" in refused(project_root, "--bundle", tmp_path / "none")


def test_a_bundle_that_was_tampered_with(project_root: Path, tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny").path
    with (bundle / "focus.onnx").open("ab") as stream:
        stream.write(b"x")
    assert "focus.onnx" in refused(project_root, "--bundle", bundle)


@pytest.mark.parametrize(("backend", "hint"), [("abacus", "onnxruntime-cpu"), ("onnxruntime-cuda", "onnxruntime-gpu")])
def test_a_backend_that_is_not_there(project_root: Path, bundle: Path, backend: str, hint: str) -> None:
    assert hint in refused(project_root, "--bundle", bundle, "--port", 0, "--backend", backend)


def test_a_setting_out_of_range(project_root: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAFOCUS_MAX_BATCH", "0")
    assert "ADAFOCUS_MAX_BATCH" in refused(project_root, "--bundle", bundle)


def test_help_lists_every_setting(project_root: Path) -> None:
    done = subprocess.run(command("--help"), cwd=project_root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "ADAFOCUS_MAX_UPLOAD_BYTES" in done.stdout
    assert "200000000" in done.stdout
    assert "Example: adafocus serve" in done.stdout


def test_the_service_imports_no_torch(project_root: Path) -> None:
    script = (
        "import sys, service.app, cli.serve, cli.classify;"
        "sys.exit(', '.join({'torch', 'model', 'training', 'export', 'onnx'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=project_root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr

"""Shell completion, called in the way that a shell calls it."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adafocus.cli.main import SUMMARIES, main
from tests.e2e.tiny import write_tiny_bundle


def completed(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What bash would offer at the end of the line."""
    monkeypatch.setenv("_ADAFOCUS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    with pytest.raises(SystemExit) as stopped:
        main([])
    assert stopped.value.code == 0
    return [offer.partition(",")[2] for offer in capsys.readouterr().out.split()]


def test_verbs_and_their_options(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert completed("adafocus ", monkeypatch, capsys) == list(SUMMARIES)
    assert completed("adafocus cl", monkeypatch, capsys) == ["classify"]
    assert "--draw" in completed("adafocus classify --", monkeypatch, capsys)


def test_the_operating_points_of_the_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny").path
    line = f"adafocus classify --bundle {bundle} --exit "
    assert completed(line, monkeypatch, capsys) == ["full", "accurate", "balanced", "fast"]
    assert completed(line + "f", monkeypatch, capsys) == ["full", "fast"]
    assert completed(f"adafocus classify --bundle {tmp_path} --exit ", monkeypatch, capsys) == []


@contextmanager
def service(answer: bytes, asked: list[dict[str, str | None]]) -> Iterator[str]:
    """The address of a service that answers everything alike, and notes the path and the key of each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append({"path": self.path, "key": self.headers["Authorization"]})
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_bench_completes_the_operating_points_of_the_service(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = {"operating_points": [{"name": name, "expected_gflops": 1.5} for name in ("full", "fast", "mine")]}
    asked: list[dict[str, str | None]] = []
    with service(json.dumps(model).encode(), asked) as url:
        line = f"adafocus bench --url {url} --key sesame --exit "
        assert completed(line, monkeypatch, capsys) == ["full", "fast", "mine"]
        assert completed(line + "f", monkeypatch, capsys) == ["full", "fast"]
    assert asked == [{"path": "/model", "key": "Bearer sesame"}] * 2


@pytest.mark.parametrize("answer", [b"<html>", b"{}", b'{"operating_points": [{"name": "x"}]}'])
def test_bench_completes_those_of_the_shipped_bundle_where_no_service_tells_its_own(
    answer: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with service(answer, []) as url:
        there = completed(f"adafocus bench --url {url} --exit f", monkeypatch, capsys)
    gone = completed(f"adafocus bench --url {url} --exit f", monkeypatch, capsys)
    assert there == gone == ["full", "fast"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--completion", shell]) == 0
    assert "_ADAFOCUS_COMPLETE" in capsys.readouterr().out


def test_a_verbs_name_is_completed_without_loading_any() -> None:
    script = (
        "import os, sys; os.environ.update(_ADAFOCUS_COMPLETE='bash_complete', COMP_WORDS='adafocus ', COMP_CWORD='1');"
        "from adafocus.cli.main import main\n"
        "try: main([])\n"
        "except SystemExit: print('loaded', [name for name in ('torch', 'service', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "loaded []" in done.stdout

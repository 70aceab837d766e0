"""`adafocus pull` from a server on loopback with a certificate of its own."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from adafocus.bundle.store import load_bundle
from adafocus.cli.main import main
from tests.e2e.tiny import write_tiny_bundle
from tests.tls import CERTIFICATE, server_context

Files = dict[str, bytes]


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Serve with the tests' certificate while the block runs; gives the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as made:
        made.socket = server_context().wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made.server_port
        made.shutdown()
        thread.join()


class Server(ThreadingHTTPServer):
    """Serves files by their paths, and redirects where a path says so."""

    def __init__(self) -> None:
        self.files: Files = {}
        self.redirects: dict[str, str] = {}
        self.asked: list[str] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.socket = server_context().wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path.partition("?")[0]
        content = self.server.files.get(path)
        if path in self.server.redirects:
            self.send_response(302)
            self.send_header("Location", self.server.redirects[path])
        else:
            self.send_response(404 if content is None else 200)
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield made
        made.shutdown()
        thread.join()


@pytest.fixture
def bundle(tmp_path: Path, server: Server) -> Path:
    """A bundle that the server has at /models/tiny."""
    path = write_tiny_bundle(tmp_path / "published").path
    server.files = {f"/models/tiny/{file.name}": file.read_bytes() for file in path.iterdir()}
    return path


def manifest_digest(bundle: Path) -> str:
    return hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()


def test_a_bundle_arrives_byte_by_byte(
    server: Server, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundles" / "tiny"
    assert (
        main(["pull", f"{server.url}/models/tiny/", "--out", str(out), "--sha256", manifest_digest(bundle).upper()])
        == 0
    )
    assert capsys.readouterr().out == f"{out}: toy 1.0, manifest sha256 {manifest_digest(bundle)}\n"
    assert {file.name: file.read_bytes() for file in out.iterdir()} == {
        file.name: file.read_bytes() for file in bundle.iterdir()
    }
    load_bundle(out)
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]


def test_a_query_goes_to_every_file_and_into_no_message(
    server: Server, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server.url}/models/tiny?signature=secret"
    assert main(["pull", url, "--out", str(tmp_path / "tiny")]) == 0
    assert all(path.endswith("?signature=secret") for path in server.asked)
    server.files = {}
    assert main(["pull", url, "--out", str(tmp_path / "again")]) == 1
    told = capsys.readouterr()
    assert "404" in told.err
    assert "secret" not in told.out + told.err


def bend(files: Files, name: str, change: Callable[[bytes], bytes]) -> None:
    files[f"/models/tiny/{name}"] = change(files[f"/models/tiny/{name}"])


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("glance.onnx", lambda content: bytes([content[0] ^ 1]) + content[1:], "sha256"),
        ("glance.onnx", lambda content: content[:-1], "bytes"),
        ("glance.onnx", lambda content: content + b"!", "is larger than the"),
        ("manifest.json", lambda content: b"<html>", "manifest.json"),
        ("manifest.json", lambda content: content.replace(b'"glance.onnx"', b'"../glance.onnx"'), "file"),
    ],
)
def test_what_is_not_what_was_published_is_not_kept(
    name: str,
    change: Callable[[bytes], bytes],
    message: str,
    server: Server,
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bend(server.files, name, change)
    before = set(tmp_path.rglob("*"))
    assert main(["pull", f"{server.url}/models/tiny", "--out", str(tmp_path / "tiny")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert f"{server.url}/models/tiny" in line
    assert set(tmp_path.rglob("*")) == before


def test_another_manifest_than_the_one_asked_for_is_refused_before_its_files_are_fetched(
    server: Server, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", f"{server.url}/models/tiny", "--out", str(tmp_path / "tiny"), "--sha256", "0" * 64]) == 1
    assert f"sha256 {manifest_digest(bundle)}, and {'0' * 64} was asked for" in capsys.readouterr().err
    assert server.asked == ["/models/tiny/manifest.json"]
    assert not (tmp_path / "tiny").exists()


def test_a_redirect_is_followed_to_https_only(
    server: Server, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.redirects = {f"/latest/{file.name}": f"{server.url}/models/tiny/{file.name}" for file in bundle.iterdir()}
    assert main(["pull", f"{server.url}/latest", "--out", str(tmp_path / "tiny")]) == 0
    server.redirects = {"/latest/manifest.json": f"http://127.0.0.1:{server.server_port}/models/tiny/manifest.json"}
    assert main(["pull", f"{server.url}/latest", "--out", str(tmp_path / "other")]) == 1
    assert "which is not https://" in capsys.readouterr().err


def test_a_server_that_is_not_trusted_is_refused(
    server: Server, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/dev/null")
    assert main(["pull", f"{server.url}/models/tiny", "--out", str(tmp_path / "tiny")]) == 1
    assert "certificate verify failed" in capsys.readouterr().err.lower()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["http://example.org/x"], "must be https://HOST/PATH, s3://"),
        (["https://"], "must be https://HOST/PATH, s3://"),
        (["s3:///x"], "must be https://HOST/PATH, s3://"),
        (["oci://example.org"], "must be https://HOST/PATH, s3://"),
        (["oci://example.org/Name"], "must be https://HOST/PATH, s3://"),
        (["oci://example.org/name@sha256:12"], "must be https://HOST/PATH, s3://"),
        (["https://example.org/x", "--sha256", "12"], "64 hexadecimal digits"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pull", *arguments, "--out", str(tmp_path / "x")]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_exists_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pull", "https://example.org/x", "--out", str(tmp_path)]) == 1
    assert "exists already" in capsys.readouterr().err


def test_the_manifest_of_the_test_names_what_the_server_has(bundle: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert {graph["file"] for graph in manifest["graphs"]} == {"glance.onnx", "focus.onnx"}

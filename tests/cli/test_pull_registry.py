"""`adafocus pull oci://`: from a registry on loopback with a certificate of its own."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import minisign
import pytest

from adafocus.bundle.store import load_bundle
from adafocus.cli.bundle_sources.registry import MANIFEST_TYPE, TITLE, Reference, parse_reference
from adafocus.cli.main import main
from tests.cli.test_pull import serving
from tests.e2e.tiny import write_tiny_bundle
from tests.tls import CERTIFICATE

LOGIN = base64.b64encode(b"me:secret").decode()
NAME = "models/tiny"


class Registry(BaseHTTPRequestHandler):
    """The reading half of a registry, with a token service; blobs are redirected to another path."""

    documents: dict[str, bytes]
    blobs: dict[str, bytes]
    asked: list[tuple[str, str | None]]
    login: str | None
    protected: bool

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        authorization = self.headers.get("Authorization")
        self.asked.append((asked.path, authorization))
        if asked.path == "/token":
            return self._token(parse_qs(asked.query), authorization)
        if asked.path.startswith("/store/"):
            return self._answer(200, self.blobs[asked.path.removeprefix("/store/")])
        if self.protected and authorization != "Bearer pass":
            realm = f'Bearer realm="https://127.0.0.1:{self.server.server_port}/token",service="here"'  # type: ignore[attr-defined]
            return self._answer(401, b"", {"WWW-Authenticate": realm})
        kind, _, what = asked.path.removeprefix(f"/v2/{NAME}/").partition("/")
        if kind == "manifests" and what in self.documents:
            assert self.headers["Accept"] == MANIFEST_TYPE
            return self._answer(200, self.documents[what])
        if kind == "blobs" and what in self.blobs:
            return self._answer(307, b"", {"Location": f"/store/{what}"})
        return self._answer(404, b"")

    def _token(self, query: dict[str, list[str]], authorization: str | None) -> None:
        assert query == {"service": ["here"], "scope": [f"repository:{NAME}:pull"]}
        permitted = self.login is None or authorization == f"Basic {self.login}"
        self._answer(200 if permitted else 401, json.dumps({"token": "pass"}).encode() if permitted else b"")

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def publish(files: dict[str, bytes], tag: str = "1") -> str:
    """Put an artifact with these files under a tag; returns the digest of its manifest."""
    layers = [
        {
            "mediaType": "application/octet-stream",
            "digest": digest(content),
            "size": len(content),
            "annotations": {TITLE: name},
        }
        for name, content in files.items()
    ]
    manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "layers": layers}).encode()
    Registry.blobs |= {digest(content): content for content in files.values()}
    Registry.documents |= {tag: manifest, digest(manifest): manifest}
    return digest(manifest)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    Registry.documents, Registry.blobs, Registry.asked = {}, {}, []
    Registry.login, Registry.protected = None, True
    with serving(Registry) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    path = write_tiny_bundle(tmp_path / "published").path
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_bundle_arrives_by_tag_and_by_digest(host: str, files: dict[str, bytes], tmp_path: Path) -> None:
    found = publish(files)
    for number, version in enumerate((":1", f"@{found}", f":other@{found}")):
        out = tmp_path / str(number)
        assert main(["pull", f"oci://{host}/{NAME}{version}", "--out", str(out)]) == 0
        assert {file.name: file.read_bytes() for file in out.iterdir()} == files
        load_bundle(out)


def test_the_token_is_for_the_registry_and_not_for_where_it_redirects(
    host: str, files: dict[str, bytes], tmp_path: Path
) -> None:
    publish(files)
    assert main(["pull", f"oci://{host}/{NAME}:1", "--out", str(tmp_path / "tiny")]) == 0
    assert {given for path, given in Registry.asked if path.startswith("/store/")} == {None}
    assert [path for path, _ in Registry.asked].count("/token") == 1


def test_a_login_is_the_one_of_docker(
    host: str, files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(files)
    Registry.login = LOGIN
    assert main(["pull", f"oci://{host}/{NAME}:1", "--out", str(tmp_path / "tiny")]) == 1
    assert "the registry answered HTTP Error 401" in capsys.readouterr().err
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text(json.dumps({"auths": {host: {"auth": LOGIN}}}))
    assert main(["pull", f"oci://{host}/{NAME}:1", "--out", str(tmp_path / "tiny")]) == 0
    assert {path for path, given in Registry.asked if given == f"Basic {LOGIN}"} == {"/token"}


def test_an_open_registry_needs_no_token(host: str, files: dict[str, bytes], tmp_path: Path) -> None:
    Registry.protected = False
    publish(files)
    assert main(["pull", f"oci://{host}/{NAME}:1", "--out", str(tmp_path / "tiny")]) == 0


def test_a_signed_artifact_is_verified(host: str, files: dict[str, bytes], tmp_path: Path) -> None:
    keys = minisign.KeyPair.generate()
    key = keys.public_key.to_base64().decode()
    publish(files)
    assert main(["pull", f"oci://{host}/{NAME}:1", "--out", str(tmp_path / "tiny"), "--key", key]) == 1
    publish(files | {"manifest.json.minisig": bytes(keys.secret_key.sign(files["manifest.json"]))})
    assert main(["pull", f"oci://{host}/{NAME}:1", "--out", str(tmp_path / "tiny"), "--key", key]) == 0


def test_what_is_not_what_was_published_is_not_kept(
    host: str, files: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = publish(files)

    def refused(version: str, message: str) -> None:
        assert main(["pull", f"oci://{host}/{NAME}{version}", "--out", str(tmp_path / "tiny")]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
        assert not (tmp_path / "tiny").exists()

    refused(":2", "the registry answered HTTP Error 404")
    Registry.blobs[digest(files["focus.onnx"])] += b"!"
    refused(":1", "is larger than the")
    Registry.blobs[digest(files["focus.onnx"])] = files["glance.onnx"][::-1]
    refused(":1", "")
    Registry.blobs[digest(files["manifest.json"])] = b"{}"
    refused(":1", "'manifest.json' is not what the artifact's manifest says")
    Registry.documents[found] = Registry.documents[found] + b" "
    refused(f"@{found}", "the registry answered with a manifest of digest")
    for bent in (
        b"[]",
        b"<html>",
        b'{"layers": [1]}',
        b'{"layers": [{"annotations": {"%s": "manifest.json"}}]}' % TITLE.encode(),
    ):
        Registry.documents["1"] = bent
        refused(":1", "cannot be fetched")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("oci://r.example.org/a/b:3", Reference("r.example.org", "a/b", "3")),
        ("oci://r.example.org:5000/a", Reference("r.example.org:5000", "a", "latest")),
        (f"oci://r/a:1@sha256:{'0' * 64}", Reference("r", "a", f"sha256:{'0' * 64}")),
        ("oci://r.example.org/a/../b", None),
        ("oci://r.example.org/a?x=1", None),
        ("oci://me:pass@r.example.org/a", None),
    ],
)
def test_references_are_read_as_registries_do(url: str, expected: Reference | None) -> None:
    assert parse_reference(url) == expected

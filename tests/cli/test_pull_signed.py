"""`adafocus pull --key`: what is not signed by the key is refused."""

from __future__ import annotations

from pathlib import Path

import minisign
import pytest

from adafocus.cli.bundle_sources import signatures
from adafocus.cli.main import main
from tests.cli.test_pull import Server, bend, manifest_digest
from tests.cli.test_pull import bundle as bundle
from tests.cli.test_pull import server as server


@pytest.fixture
def keys() -> minisign.KeyPair:
    return minisign.KeyPair.generate()


def sign(server: Server, keys: minisign.KeyPair, comment: str = "toy 1.0") -> None:
    content = server.files["/models/tiny/manifest.json"]
    signature = keys.secret_key.sign(content, trusted_comment=comment)
    server.files["/models/tiny/manifest.json.minisig"] = bytes(signature)


def pull(server: Server, tmp_path: Path, *options: str) -> int:
    return main(["pull", f"{server.url}/models/tiny", "--out", str(tmp_path / "tiny"), *options])


@pytest.mark.parametrize("as_file", [False, True])
def test_a_signed_bundle_is_fetched(
    as_file: bool,
    server: Server,
    bundle: Path,
    keys: minisign.KeyPair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    sign(server, keys)
    file = tmp_path / "mine.pub"
    file.write_bytes(bytes(keys.public_key))
    key = str(file) if as_file else keys.public_key.to_base64().decode()
    assert pull(server, tmp_path, "--key", key) == 0
    told = capsys.readouterr().out
    assert f"manifest sha256 {manifest_digest(bundle)}\n" in told
    assert told.endswith("signature verified; its comment: toy 1.0\n")
    assert {path.name for path in (tmp_path / "tiny").iterdir()} == {path.name for path in bundle.iterdir()}


def test_the_key_may_be_configured(
    server: Server,
    bundle: Path,
    keys: minisign.KeyPair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ADAFOCUS_PULL_KEY", keys.public_key.to_base64().decode())
    assert pull(server, tmp_path) == 1
    assert "is not signed, and --key demands a signature: manifest.json.minisig is missing" in capsys.readouterr().err
    assert not (tmp_path / "tiny").exists()
    sign(server, keys)
    assert pull(server, tmp_path) == 0


def test_another_key_another_manifest_and_another_comment_are_refused(
    server: Server, bundle: Path, keys: minisign.KeyPair, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = keys.public_key.to_base64().decode()
    sign(server, minisign.KeyPair.generate())
    assert pull(server, tmp_path, "--key", key) == 1
    assert "is refused: its signature is not valid" in capsys.readouterr().err
    sign(server, keys)
    bend(server.files, "manifest.json.minisig", lambda content: content.replace(b"toy 1.0", b"toy 2.0"))
    assert pull(server, tmp_path, "--key", key) == 1
    sign(server, keys)
    bend(server.files, "manifest.json", lambda content: content.replace(b'"1.0"', b'"1.1"'))
    assert pull(server, tmp_path, "--key", key) == 1
    assert server.asked.count("/models/tiny/glance.onnx") == 0
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize("content", [b"", b"no signature", b"\xff" * 400, b"x" * 20_000])
def test_what_is_no_signature_is_refused_in_one_line(
    content: bytes,
    server: Server,
    bundle: Path,
    keys: minisign.KeyPair,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.files["/models/tiny/manifest.json.minisig"] = content
    assert pull(server, tmp_path, "--key", keys.public_key.to_base64().decode()) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "is refused: " in line


@pytest.mark.parametrize("key", ["nonsense", "RW" + "A" * 54, "x" * 5000, "/dev/null", "."])
def test_what_is_no_key_is_refused_before_anything_is_fetched(
    key: str, server: Server, bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pull(server, tmp_path, "--key", key) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--key: {key!r} is neither a minisign public key nor a file with one" in line
    assert server.asked == []


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "minisign", None)
    with pytest.raises(signatures.SourceError, match=r"pip install 'adafocus\[signed\]'"):
        signatures.read_key("x")

"""`adafocus pull s3://`: from a bucket on loopback."""

from __future__ import annotations

from pathlib import Path

import pytest

from adafocus.bundle.store import load_bundle
from adafocus.cli.main import main
from tests.bucket import NAME, a_bucket
from tests.e2e.tiny import write_tiny_bundle


def test_a_bundle_arrives_from_a_bucket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = write_tiny_bundle(tmp_path / "published").path
    with a_bucket() as bucket:
        bucket.use(monkeypatch)
        for file in published.iterdir():
            bucket.put(f"models/tiny/{file.name}", file.read_bytes())
        for number, end in enumerate(("", "/")):
            out = tmp_path / str(number)
            assert main(["pull", f"s3://{NAME}/models/tiny{end}", "--out", str(out)]) == 0
            assert load_bundle(out).manifest == load_bundle(published).manifest
        assert main(["pull", f"s3://{NAME}/models/none", "--out", str(tmp_path / "none")]) == 1
        assert "there is no object 'models/none/manifest.json'" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()

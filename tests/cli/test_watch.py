"""`adafocus watch` with files as cameras."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adafocus.cli.main import main
from tests.e2e.tiny import write_parts, write_tiny_bundle


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAFOCUS_DECODE_WORKERS", "1")


def test_two_cameras_are_watched_to_their_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny").path
    for name, label in (("gate", "dark"), ("yard", "bright")):
        write_parts(tmp_path / f"{name}.mp4", [(label, 5.0)])
    cameras = tmp_path / "cameras.toml"
    cameras.write_text(
        "".join(f'[[camera]]\nname = "{n}"\nurl = "{n}.mp4"\nwindow_s = 2\nspeed = 0\n' for n in ("gate", "yard")),
        encoding="utf-8",
    )
    out = tmp_path / "rows.jsonl"
    assert main(["watch", str(cameras), "--bundle", str(bundle), "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    events = {(row["camera"], row["label"]) for row in rows if row["type"] == "end"}
    assert events == {("gate", "dark"), ("yard", "bright")}
    assert {row["camera"] for row in rows if row["type"] == "connected"} == {"gate", "yard"}
    told = capsys.readouterr().err
    assert "gate: " in told
    assert "0 dropped" in told


def test_a_file_that_cannot_be_used_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cameras = tmp_path / "cameras.toml"
    cameras.write_text('[[camera]]\nname = "gate"\nurl = "rtmp://host/"\n', encoding="utf-8")
    assert main(["watch", str(cameras)]) == 1
    assert "http or https" in capsys.readouterr().err

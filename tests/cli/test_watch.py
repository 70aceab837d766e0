"""`adafocus watch` with files as cameras."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
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


def test_the_cameras_are_served_on_a_port_until_the_command_is_told_to_stop(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny").path
    write_parts(tmp_path / "gate.mp4", [("dark", 5.0)])
    cameras = tmp_path / "cameras.toml"
    cameras.write_text('[[camera]]\nname = "gate"\nurl = "gate.mp4"\nwindow_s = 2\nspeed = 0\nloop = true\n')
    command = [sys.executable, "-m", "adafocus", "watch", str(cameras), "--bundle", str(bundle), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stderr.readline().split()[-1]
        assert next(line for line in process.stdout if json.loads(line)["type"] == "window")
        with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
            (gate,) = client.get("cameras").json()["cameras"]
            metrics = client.get("metrics").text
        process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=60)
    assert (gate["name"], gate["state"], gate["label"]) == ("gate", "live", "dark")
    assert gate["windows"] >= 1
    assert 'adafocus_camera_up{camera="gate"} 1.0' in metrics
    assert "adafocus_ready 1.0" in metrics
    assert process.returncode == 0
    assert "gate: " in told

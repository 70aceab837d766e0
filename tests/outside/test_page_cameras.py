"""The page of `adafocus watch` in a browser."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from .conftest import COMMAND
from .visit import ROOT, Visit, faults

CAMERAS = f"""
[[camera]]
name = "roof"
url = "{ROOT / "samples" / "drone.mp4"}"
window_s = 1
speed = 0
loop = true

[[camera]]
name = "gate"
url = "rtsp://viewer:s3cr3t@127.0.0.1:1/stream"
"""


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("watch")
    (folder / "cameras.toml").write_text(CAMERAS, encoding="utf-8")
    process = subprocess.Popen(
        [str(COMMAND), "watch", "cameras.toml", "--port", "0", "--out", "rows.jsonl"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        yield process.stderr.readline().split()[-1].rstrip("/")
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_each_camera_has_a_tile(watch: str, context: BrowserContext) -> None:
    visit = Visit(context, watch)
    page = visit.open()
    expect(page.locator("#summary")).to_have_text("1 of 2 live", timeout=60_000)
    roof, gate = page.locator(".tile").nth(0), page.locator(".tile").nth(1)
    expect(roof.locator(".tile-name")).to_have_text("roof")
    expect(roof.locator(".tile-state")).to_have_text("live")
    expect(roof.locator("[data-fact=score]")).to_contain_text("%", timeout=60_000)
    expect(gate.locator(".tile-state")).to_have_text("lost")
    expect(gate.locator(".tile-warning")).to_have_text("Connection refused")
    assert "s3cr3t" not in page.content()
    assert faults(page) == []
    visit.check_manners()


def test_it_fits_a_narrow_screen(watch: str, context: BrowserContext) -> None:
    page = Visit(context, watch).open()
    page.set_viewport_size({"width": 360, "height": 720})
    expect(page.locator(".tile")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360

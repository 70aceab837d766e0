"""The service as a process of its own, as users meet it, and a browser to meet it with."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from .visit import ROOT, Visit

COMMAND = ROOT / ".venv" / "bin" / "adafocus"
PYTHON = ROOT / ".venv" / "bin" / "python"
START_SECONDS = 60
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or "chromium"
QUIET = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--force-color-profile=srgb"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]

Serve = Callable[..., str]


@contextmanager
def service(*arguments: str, folder: Path = ROOT, **environment: str) -> Iterator[str]:
    """Start it, yield its address once it is ready, and end it."""
    process = subprocess.Popen(
        [str(COMMAND), "serve", "--port", "0", *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ADAFOCUS_DRAIN_GRACE_SECONDS": "0", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[dict[str, object]] = queue.Queue()

    def listen() -> None:
        for line in process.stderr or ():
            lines.put(json.loads(line))

    threading.Thread(target=listen, daemon=True).start()
    try:
        url = ""
        while True:
            line = lines.get(timeout=START_SECONDS)
            if line["message"] == "listening":
                url = str(line["url"])
            if line["message"] == "ready":
                break
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the clips that `tests.media` makes, in an environment that has PyAV."""
    folder = tmp_path_factory.mktemp("clips")
    subprocess.run([str(PYTHON), "-m", "tests.media", str(folder)], cwd=ROOT, check=True)
    return folder


@pytest.fixture(scope="session")
def url() -> Iterator[str]:
    """The service with the shipped bundle."""
    with service() as address:
        yield address


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A visitor with an empty cache."""
    visitor = browser.new_context(viewport={"width": 1280, "height": 900}, locale="en-GB")
    yield visitor
    visitor.close()


@pytest.fixture
def visit(context: BrowserContext, url: str) -> Visit:
    """The page, not opened yet."""
    return Visit(context, url)

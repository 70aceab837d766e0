"""The moving picture in README: the page while a sample is classified, recorded in the browser."""

from __future__ import annotations

import io
import itertools
import time
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from .visit import SAMPLES

VIEWPORT = {"width": 1120, "height": 900}
WIDTH = 840
COLOURS = 96
DOWNLOAD_BYTES_PER_SECOND = 9_000
"""Slow enough for the steps to be seen one after another; the model itself takes a few milliseconds a step."""
LONGEST_SECONDS = 20.0
REST_SECONDS = 2.5
"""How long the finished answer stands before the picture begins again."""


def record(browser: Browser, url: str, path: Path, *, clip: str = "airplane.mp4", point: str = "full") -> int:
    """Record a visit as an animated GIF and return the number of its frames.

    Args:
        browser: to visit the page with.
        url: of a running service.
        path: of the file to write.
        clip: the sample to classify.
        point: the operating point to choose.
    """
    context = browser.new_context(viewport=VIEWPORT, locale="en-GB", color_scheme="light", reduced_motion="reduce")
    try:
        page = context.new_page()
        page.goto(url)
        expect(page.locator("#model")).to_contain_text("ready")
        page.locator("#point-row").get_by_text(point, exact=False).first.click()
        page.wait_for_load_state("networkidle")  # the samples' pictures come over the same slow line
        _slow_down(page)
        shots = [_shot(page)]
        page.locator("#file").set_input_files(SAMPLES / clip)
        began = time.monotonic()
        while time.monotonic() - began < LONGEST_SECONDS and not page.locator(".top-score").is_visible():
            page.evaluate("document.getElementById('points').scrollIntoView()")
            shots.append(_shot(page))
        shots.append(_shot(page))
    finally:
        context.close()
    return _write(path, shots)


def _slow_down(page: Page) -> None:
    devtools = page.context.new_cdp_session(page)
    devtools.send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 0, "downloadThroughput": DOWNLOAD_BYTES_PER_SECOND, "uploadThroughput": -1},
    )


def _shot(page: Page) -> tuple[float, Image.Image]:
    """What the page shows, and when."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    size = (WIDTH, round(picture.height * WIDTH / picture.width))
    return time.monotonic(), picture.resize(size, Image.Resampling.LANCZOS)


def _write(path: Path, shots: list[tuple[float, Image.Image]]) -> int:
    """Write the pictures that differ from the one before, each for as long as it stood."""
    kept = [shots[0]]
    for moment, picture in shots[1:]:
        if picture.tobytes() != kept[-1][1].tobytes():
            kept.append((moment, picture))
    moments = [moment for moment, _ in kept]
    durations = [max(60, round(1e3 * (after - before))) for before, after in itertools.pairwise(moments)]
    palette = kept[-1][1].quantize(COLOURS, method=Image.Quantize.MEDIANCUT)
    pictures = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for _, picture in kept]
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[*durations, round(1e3 * REST_SECONDS)],
        loop=0,
        optimize=True,
    )
    return len(pictures)

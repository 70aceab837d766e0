"""The pictures in the docs, taken of the page as it is: `.venv-outside/bin/python -m tests.outside.take_pictures`."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from .conftest import CHROMIUM, QUIET, service
from .moving_picture import record
from .visit import ROOT, SAMPLES

PICTURES = ROOT / "docs" / "pictures"
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


def show_a_clip(page: Page, url: str, point: str) -> None:
    """A sample, looked at and compared."""
    page.goto(url)
    expect(page.locator("#model")).to_contain_text("ready")
    page.wait_for_timeout(2500)  # the pictures of the samples are drawn on the processors that the service is timed on
    page.locator("#file").set_input_files(SAMPLES / "airplane.mp4")
    expect(page.locator(".top-score")).to_be_visible()
    page.get_by_role("button", name="Run the rest").click()
    expect(page.locator("#run-all")).to_be_hidden()
    page.locator("#compare").get_by_role("button", name=point).click()
    page.mouse.move(0, 0)  # what lies under it would look touched
    page.wait_for_timeout(1500)  # the frames in the clip's own size come after


def take(url: str, folder: Path) -> None:
    """Take them all."""
    folder.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        for name, scheme, size, point in (
            ("page-light", "light", WIDE, "full"),
            ("page-dark", "dark", WIDE, "balanced"),
            ("page-narrow", "light", NARROW, "full"),
        ):
            context = browser.new_context(
                viewport=size, color_scheme=scheme, device_scale_factor=1.5, locale="en-GB", reduced_motion="reduce"
            )
            page = context.new_page()
            show_a_clip(page, url, point)
            if size is NARROW:
                page.evaluate("document.getElementById('results').scrollIntoView()")
            page.screenshot(
                path=folder / f"{name}.jpg", type="jpeg", quality=76, full_page=name != "page-narrow", scale="device"
            )
            context.close()
        record(browser, url, folder / "page.gif")
        browser.close()


if __name__ == "__main__":
    with service() as address:
        take(address, PICTURES)

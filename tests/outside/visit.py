"""A visit of the page in a real browser, and what went on behind it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page, expect

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
CLIP = SAMPLES / "helicopter.mp4"
ODD = ROOT / "tests" / "fixtures" / "video"
SLOW_BYTES_PER_SECOND = 20_000
UNHINDERED = -1
SERIOUS = {"serious", "critical"}


class Visit:
    """A page, and what went on behind it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.context = context
        self.page: Page = context.new_page()
        self.devtools = context.new_cdp_session(self.page)
        self.complaints: list[str] = []
        self.hosts: set[str] = set()
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.complaints.append(message.text))
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))

    def open(self, path: str = "/") -> Page:
        self.page.goto(self.url + path)
        return self.page

    def start(self) -> Page:
        page = self.open()
        expect(page.locator("#model")).to_contain_text("ready")
        expect(page.locator(".sample").first).to_be_visible()
        return page

    def slow_down(self, upload: int = SLOW_BYTES_PER_SECOND, download: int = UNHINDERED) -> None:
        self.devtools.send(
            "Network.emulateNetworkConditions",
            {"offline": False, "latency": 0, "downloadThroughput": download, "uploadThroughput": upload},
        )

    def check_manners(self, *expected: str) -> None:
        """No error on the console but those expected, and nothing asked of another host."""
        unexpected = [text for text in self.complaints if not any(part in text for part in expected)]
        assert not unexpected, unexpected
        assert self.hosts - {""} == {urlsplit(self.url).netloc}


def answered(page: Page) -> None:
    expect(page.locator(".top-score")).to_be_visible(timeout=20_000)


def until(page: Page, condition: str) -> None:
    """Ask again and again: waiting inside the page needs an eval, which its content security policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def faults(page: Page) -> list[str]:
    """What axe-core finds of a serious kind."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]

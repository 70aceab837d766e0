"""The moving picture of README can be recorded from the page, and the committed one is what README promises."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser

from .moving_picture import record
from .visit import ROOT

PICTURE = ROOT / "docs" / "pictures" / "page.gif"
MOST_BYTES = 2_000_000


def test_the_page_is_recorded_while_it_classifies(browser: Browser, url: str, tmp_path: Path) -> None:
    path = tmp_path / "page.gif"
    assert record(browser, url, path) > 4
    assert path.stat().st_size < MOST_BYTES


def test_the_committed_picture_moves_and_is_small() -> None:
    with Image.open(PICTURE) as picture:
        assert picture.n_frames > 4
    assert PICTURE.stat().st_size < MOST_BYTES

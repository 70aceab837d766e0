"""The page in a real browser: the time line of a video that is classified in windows."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .visit import CLIP, Visit, answered, faults, until


def test_a_click_on_the_time_line_plays_that_part(visit: Visit) -> None:
    page = visit.start()
    page.locator("#file").set_input_files(CLIP)
    answered(page)
    page.get_by_label("Window in seconds").fill("2")
    page.get_by_role("button", name="Classify in windows").click()
    expect(page.locator("#timeline-words")).to_have_text(re.compile(r"\d+ windows, \d+ events\. .* saved\."))
    parts = page.locator("#timeline-bar button")
    assert parts.count() == 3
    expect(parts.nth(1)).to_have_accessible_name(re.compile(r"^[a-z]+, 00:02 to 00:04, "))
    assert faults(page) == []
    parts.nth(1).click()
    expect(page.locator("#player")).to_be_visible()
    until(page, "document.getElementById('player').currentTime >= 2")
    until(page, "document.getElementById('player').paused && document.getElementById('player').currentTime >= 4")
    visit.check_manners()


def test_the_time_line_begins_anew_with_another_clip(visit: Visit) -> None:
    page = visit.start()
    page.locator("#file").set_input_files(CLIP)
    answered(page)
    page.get_by_role("button", name="Classify in windows").click()
    expect(page.locator("#timeline-bar button").first).to_be_visible()
    page.locator("#file").set_input_files(CLIP)
    expect(page.locator("#timeline-bar button")).to_have_count(0)
    answered(page)
    visit.check_manners()

"""The page in a real browser, of a service that requires an API key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import BrowserContext, expect

from .conftest import service
from .visit import Visit, answered


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    with service(ADAFOCUS_API_KEYS="sesame") as address:
        yield address


def test_a_key_is_asked_for_and_kept_for_the_tab(context: BrowserContext, locked: str) -> None:
    visit = Visit(context, locked)
    page = visit.open()
    expect(page.locator("#key-error")).to_be_empty()
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#key-error")).to_have_text("That key was not accepted.")
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#key-dialog")).to_be_hidden()
    page.get_by_role("button", name="airplane", exact=True).click()
    answered(page)
    page.reload()
    expect(page.locator("#model")).to_contain_text("ready")
    visit.check_manners("401")


def test_a_key_dialog_that_was_closed_without_a_key_can_be_opened_again(context: BrowserContext, locked: str) -> None:
    visit = Visit(context, locked)
    page = visit.open()
    for _ in range(2):
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("alert").first).to_contain_text("requires a key")
        expect(page.get_by_role("button", name="Choose a file")).to_be_disabled()
        page.get_by_role("button", name="Try again").click()
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_contain_text("ready")
    expect(page.locator("#alert")).to_be_empty()
    expect(page.get_by_role("button", name="Choose a file")).to_be_enabled()
    page.get_by_role("button", name="airplane", exact=True).click()
    answered(page)
    visit.check_manners("401")


def test_a_key_that_is_no_longer_accepted_is_asked_for_again(context: BrowserContext, locked: str) -> None:
    visit = Visit(context, locked)
    page = visit.open()
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_contain_text("ready")
    page.evaluate("sessionStorage.setItem('adafocus-key', 'rotated away')")
    page.get_by_role("button", name="airplane", exact=True).click()
    expect(page.locator("#key-error")).to_have_text("That key was not accepted.")
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    answered(page)
    visit.check_manners("401")

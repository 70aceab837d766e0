"""The page in a real browser, of a service with several models."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, expect

from .conftest import service
from .visit import ROOT, Visit, answered, faults


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("bundles")
    for name in ("birds", "sky"):
        shutil.copytree(ROOT / "bundles" / "sky", folder / name)
    with service("--bundles", str(folder), ADAFOCUS_DEFAULT_MODEL="sky") as address:
        yield address


def test_the_models_are_offered_and_the_chosen_one_answers(context: BrowserContext, several: str) -> None:
    visit = Visit(context, several)
    page = visit.start()
    models = page.get_by_label("Model", exact=True)
    expect(models).to_have_value("sky")
    expect(models.locator("option")).to_have_text(["birds", "sky"])
    models.select_option("birds")
    expect(page.locator("#model")).to_contain_text("birds")
    expect(models).to_have_value("birds")
    assert page.url.endswith("?model=birds")
    with page.expect_request("**/classify?*") as sent:
        page.get_by_role("button", name="airplane", exact=True).click()
    assert "model=birds" in sent.value.url
    answered(page)
    assert faults(page) == []
    visit.check_manners()


def test_one_model_is_not_offered(visit: Visit) -> None:
    page = visit.start()
    expect(page.get_by_label("Model", exact=True)).to_be_hidden()
    visit.check_manners()

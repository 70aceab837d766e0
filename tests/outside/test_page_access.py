"""The page in a real browser: with the keyboard alone, to a screen reader, in every size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from .visit import CLIP, ODD, UNHINDERED, Visit, answered, faults


def test_with_the_keyboard_alone(visit: Visit) -> None:
    page = visit.start()

    def tab_to(selector: str) -> None:
        for _ in range(60):
            page.keyboard.press("Tab")
            if page.evaluate("(wanted) => document.activeElement.matches(wanted)", selector):
                outline = page.evaluate(
                    """() => { const seen = [document.activeElement, document.activeElement.closest("label")];
                    return seen.some((one) => one && getComputedStyle(one).outlineStyle !== "none"); }"""
                )
                assert outline, f"{selector} shows no focus"
                return
        raise AssertionError(f"no Tab leads to {selector}")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    tab_to("#choose")
    tab_to(".sample")
    page.keyboard.press("Enter")
    answered(page)
    tab_to("input[name=point]")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#compare tr.current")).not_to_contain_text("looking", timeout=20_000)
    answered(page)
    tab_to(".cell-button")
    page.keyboard.press("Space")
    tab_to("#run-all")
    page.keyboard.press("Enter")
    expect(page.locator("#run-all")).to_be_hidden(timeout=20_000)
    visit.check_manners()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), (360, 740)], ids=["wide", "narrow"])
def test_nothing_overflows_and_axe_finds_no_serious_fault(
    browser: Browser, url: str, scheme: str, size: tuple[int, int]
) -> None:
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    visit = Visit(context, url)
    page = visit.start()
    assert faults(page) == []
    page.get_by_role("button", name="helicopter").click()
    answered(page)
    page.get_by_role("button", name="Run the rest").click()
    expect(page.locator("#run-all")).to_be_hidden(timeout=20_000)
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    visit.open("/docs")
    expect(page.locator(".route").first).to_be_visible()
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    visit.check_manners()
    context.close()


def test_the_error_and_the_camera_are_accessible_too(visit: Visit, tmp_path: Path) -> None:
    page = visit.start()
    (tmp_path / "a.mp4").write_bytes(b"x" * 100)
    page.locator("#file").set_input_files(tmp_path / "a.mp4")
    expect(page.get_by_role("alert")).to_contain_text("supported")
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.locator("#camera-go")).to_be_enabled()
    assert faults(page) == []


@pytest.mark.parametrize(
    ("size", "zoom"), [((320, 640), 1), ((640, 400), 2)], ids=["narrow", "1280 pixels enlarged twice"]
)
def test_every_state_fits_a_small_window(
    browser: Browser, url: str, size: tuple[int, int], zoom: int, tmp_path: Path
) -> None:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, device_scale_factor=zoom, reduced_motion="reduce"
    )
    visit = Visit(context, url)
    page = visit.start()

    def check_fit(*seen: Locator) -> None:
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
        for place in seen:
            expect(place).to_be_in_viewport(ratio=1)
        assert faults(page) == []

    visit.slow_down()
    (tmp_path / f"{'long' * 50}.mp4").write_bytes(CLIP.read_bytes())
    page.locator("#file").set_input_files(tmp_path / f"{'long' * 50}.mp4")
    cancel = page.get_by_role("button", name="Cancel")
    expect(cancel).to_be_visible()
    check_fit(cancel)
    cancel.click()
    again = page.get_by_role("button", name="Try again")
    expect(again).to_be_focused()
    check_fit(again)
    visit.slow_down(UNHINDERED)
    again.click()
    answered(page)
    check_fit()
    assert page.evaluate("document.getAnimations().length") == 0, "less motion was asked for"
    page.locator("#file").set_input_files(ODD / "hls_playlist.m3u8")
    expect(page.get_by_role("alert")).to_contain_text("supported")
    check_fit()
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.locator("#camera-go")).to_be_enabled()
    check_fit(page.locator("#camera"), page.locator("#camera-go"), page.locator("#camera-words"))
    visit.check_manners("415")
    context.close()


def test_the_keyboards_focus_outlives_what_it_was_on(visit: Visit) -> None:
    page = visit.start()

    def focused() -> str:
        return str(page.evaluate("document.activeElement.id || document.activeElement.dataset.point"))

    page.get_by_role("button", name="helicopter").click()
    answered(page)
    page.get_by_role("button", name="Run full").focus()
    page.keyboard.press("Enter")
    answered(page)
    assert focused() == "full", "its row was made anew with every step"
    page.locator("#run-all").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#run-all")).to_be_hidden(timeout=20_000)
    assert focused() == "compare-frame", "the button has gone"
    visit.slow_down()
    page.locator("#file").set_input_files(CLIP)
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#progress")).to_be_hidden()
    assert focused() == "again"
    visit.check_manners()


LONG = "putting_something_that_cannot_actually_stand_upright_upright_on_the_table_so_it_falls_on_its_side"


def large_model(page: Page, steps: int = 16, classes: int = 200) -> None:
    """Let the page believe that a large model is served, and what it answers."""
    order = [steps // 2 - 1, *(i for i in range(steps) if i != steps // 2 - 1)]
    labels = [f"{LONG}_{i}" for i in range(classes)]
    point = {"name": "full", "thresholds": [None] * steps, "expected_gflops": 27.0, "expected_accuracy": None}
    model = {
        "name": "large",
        "version": "2026.11",
        "labels": labels,
        "steps": steps,
        "geometry": {"resize": 256, "crop": 224},
        "patch_size": 128,
        "exit_criterion": "max_softmax",
        "operating_points": [point],
        "default_point": "full",
    }
    box = {"x": 0, "y": 0, "width": 240, "height": 240}
    patch = {"x": 60, "y": 60, "width": 120, "height": 120}
    drawn = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='224' height='224'/%3E"
    image = {"data": drawn, "view": box, "width": 320, "height": 240}
    events = [
        (
            "step",
            {
                "step": number,
                "frame": 10 * number,
                "time_s": None,
                "patch": patch,
                "label": labels[number],
                "confidence": number / steps,
                "place": place,
                "threshold": None,
                "gflops": number * 1.7,
                "elapsed_ms": 1.0,
                "image": image,
            },
        )
        for number, place in enumerate(order, 1)
    ]
    result = {
        "predictions": [{"label": labels[i], "index": i, "score": 0.5 / (i + 1)} for i in range(5)],
        "exit": {
            "point": "full",
            "reason": "all_steps",
            "step": steps,
            "steps": steps,
            "component": "focus",
            "confidence": 1,
            "threshold": None,
        },
        "compute": {
            "gflops": 27.0,
            "gflops_full": 27.0,
            "glance_gflops": 5.4,
            "focus_gflops": 21.6,
            "frames_used": steps,
            "frames_decoded": 245,
            "decode_cpu_ms": 812.5,
        },
        "timing_ms": dict.fromkeys(("total", "upload", "queue", "decode", "glance", "focus"), 12_345.6),
        "video": {"frames": None},
    }
    told = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in [*events, ("result", result)])
    page.route("**/model", lambda route: route.fulfill(json=model))
    page.route("**/classify?*", lambda route: route.fulfill(body=told, content_type="text/event-stream"))


@pytest.mark.parametrize("width", [320, 820, 1280])
def test_a_large_model_with_long_names_fits(browser: Browser, url: str, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 900})
    visit = Visit(context, url)
    large_model(visit.page)
    page = visit.start()
    page.get_by_role("button", name="helicopter").click()
    answered(page)
    cells = page.locator(".cell-button")
    expect(cells).to_have_count(16)
    assert min(cell.bounding_box()["width"] for cell in cells.all()) >= 44  # as wide as a finger
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert faults(page) == []
    page.get_by_role("button", name="Replay slowly").click()
    expect(page.locator(".cell.later")).not_to_have_count(0)
    visit.check_manners()
    context.close()

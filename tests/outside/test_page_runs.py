"""The page in a real browser: runs, cancelled, compared, interrupted and replayed."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from .visit import CLIP, SAMPLES, SLOW_BYTES_PER_SECOND, UNHINDERED, Visit, answered, faults


def test_progress_and_cancel(visit: Visit) -> None:
    page = visit.start()
    visit.slow_down()
    page.locator("#file").set_input_files(CLIP)
    expect(page.locator("#progress-words")).to_contain_text("Sending the video: ")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#live")).to_have_text("Cancelled. The clip is still here.")
    expect(page.get_by_role("region", name="Cancelled")).to_be_visible()
    expect(page.locator("#alert")).to_be_empty()
    assert faults(page) == []
    visit.check_manners()


def test_a_cancelled_clip_is_looked_at_again_with_one_key(visit: Visit) -> None:
    page = visit.start()
    page.get_by_label("full never stops early").check()
    again = page.get_by_role("button", name="Try again")

    def cancel_and_go_on(words: str) -> None:
        expect(page.locator("#progress-words")).to_contain_text(words)
        page.get_by_role("button", name="Cancel").press("Enter")
        expect(again).to_be_focused()
        expect(again).to_have_accessible_description(re.compile("still here"))
        expect(page.locator("#input-hint")).to_contain_text(CLIP.name)

    visit.slow_down()
    page.locator("#file").set_input_files(CLIP)
    cancel_and_go_on("Sending the video: ")
    visit.slow_down(UNHINDERED, download=SLOW_BYTES_PER_SECOND)
    page.keyboard.press("Enter")
    cancel_and_go_on("Looking: step ")
    visit.slow_down(UNHINDERED)
    page.keyboard.press("Enter")
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("helicopter")
    expect(page.locator("#cancelled")).to_be_hidden()
    visit.check_manners()


def test_a_slow_upload_is_answered(visit: Visit) -> None:
    """The answer may come before the last byte was sent."""
    page = visit.start()
    visit.slow_down()
    page.locator("#file").set_input_files(SAMPLES / "drone.mp4")
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("drone")
    visit.check_manners()


def test_another_clip_while_one_is_on_its_way(visit: Visit) -> None:
    page = visit.start()
    visit.slow_down()
    page.locator("#file").set_input_files(CLIP)
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("button", name="airplane", exact=True).click()
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("airplane")
    expect(page.locator("#progress")).to_be_hidden()
    visit.check_manners()


def test_a_service_that_is_gone_is_said_to_be(visit: Visit) -> None:
    page = visit.start()
    page.route(re.compile("/(classify|readyz)"), lambda route: route.abort())
    page.locator("#file").set_input_files(CLIP)
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.locator("#model")).to_contain_text("not ready")
    page.unroute_all()
    page.get_by_role("button", name="Try again").press("Enter")
    assert page.evaluate("document.activeElement.id") == "work", "the button has gone, the place has not"
    answered(page)
    expect(page.locator("#model")).to_contain_text("· ready")
    visit.check_manners("ERR_FAILED")


def test_another_operating_point_runs_the_same_clip_and_compares(visit: Visit) -> None:
    page = visit.start()
    page.get_by_role("button", name="bird").click()
    answered(page)
    page.get_by_label("full never stops early").check()
    expect(page.locator("#compare tr.current")).to_contain_text("8 of 8", timeout=20_000)
    expect(page.locator("#compare tr")).to_have_count(4)
    page.get_by_role("button", name="Run the rest").click()
    expect(page.get_by_role("button", name="Run the rest")).to_be_hidden(timeout=20_000)
    steps = [row.split("\t") for row in page.locator("#compare tr").all_inner_texts()]
    assert len(steps) == 4
    spent = [
        float(text) for text in page.locator("#compare td:nth-child(4) .barred > span:first-child").all_inner_texts()
    ]
    assert spent == sorted(spent), "the cheaper point comes first"
    page.locator("#compare").get_by_role("button", name="full").click()
    expect(page.locator("#stage-words")).to_contain_text("step 8 of 8")
    expect(page.get_by_label("full never stops early")).to_be_checked()
    visit.check_manners()


def test_a_limit_on_decoding_is_told_and_what_decoding_took(visit: Visit) -> None:
    page = visit.start()
    limited = re.compile("/classify[?]")
    page.route(limited, lambda route: route.continue_(url=f"{route.request.url}&max_decode_ms=1&strict=true"))
    page.get_by_label("full never stops early").check()
    page.get_by_role("button", name="helicopter").click()
    answered(page)
    expect(page.locator("#answer")).to_contain_text("Decoding limit reached after one frame of 8.")
    expect(page.locator("#cost")).to_contain_text(re.compile("Decoding took.*ms of processor time"))
    expect(page.locator("#compare tr.current")).to_contain_text("1 of 8")
    page.unroute(limited)
    page.get_by_role("button", name="airplane", exact=True).click()
    expect(page.locator("#answer")).to_contain_text("Looked at all 8 frames.", timeout=20_000)
    visit.check_manners()


def test_the_rest_is_run_once_however_often_it_is_asked_for(visit: Visit) -> None:
    page = visit.start()
    asked: list[str] = []
    page.on("request", lambda request: asked.extend(re.findall("classify.exit=([a-z]+)", request.url)))
    visit.slow_down()
    page.get_by_role("button", name="bird").click()
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("button", name="Run the rest").dblclick()
    visit.slow_down(UNHINDERED)
    expect(page.locator("#run-all")).to_be_hidden(timeout=20_000)
    assert asked == ["balanced", "fast", "accurate", "full"]
    visit.check_manners()


def test_a_point_is_switched_amid_the_steps_of_another(visit: Visit) -> None:
    page = visit.start()
    page.get_by_label("full never stops early").check()
    visit.slow_down(UNHINDERED, download=SLOW_BYTES_PER_SECOND // 3)
    page.locator("#file").set_input_files(CLIP)
    expect(page.locator("#progress-words")).to_contain_text("Looking: step ")
    page.locator("input[name=point][value=fast]").check()
    page.locator("input[name=point][value=accurate]").check()
    visit.slow_down(UNHINDERED)
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("helicopter")
    expect(page.locator("#compare tr.current")).to_contain_text("accurate")
    expect(page.locator("#compare").get_by_role("button", name="Run ")).to_have_count(3)
    visit.check_manners()


def test_a_page_that_is_loaded_again_amid_a_run_starts_anew(visit: Visit) -> None:
    page = visit.start()
    visit.slow_down()
    page.locator("#file").set_input_files(CLIP)
    expect(page.locator("#progress")).to_be_visible()
    page.reload()
    visit.slow_down(UNHINDERED)
    expect(page.locator("#empty")).to_be_visible()
    page.get_by_role("button", name="airplane", exact=True).click()
    answered(page)
    visit.check_manners()


def test_a_point_that_was_left_does_not_come_back(visit: Visit) -> None:
    page = visit.start()
    page.get_by_role("button", name="helicopter").click()
    answered(page)
    visit.slow_down()
    page.get_by_label("full never stops early").check()
    expect(page.locator("#progress")).to_be_visible()
    with page.expect_event("requestfailed", lambda request: "exit=full" in request.url):
        page.locator("input[name=point][value=balanced]").check()
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#compare")).not_to_contain_text("8 of 8")
    expect(page.locator("#answer .top-label")).to_have_text("helicopter")
    visit.check_manners("ERR_ABORTED")


def test_a_slow_replay(visit: Visit) -> None:
    page = visit.start()
    page.get_by_label("full never stops early").check()
    page.get_by_role("button", name="helicopter").click()
    answered(page)
    page.get_by_role("button", name="Replay slowly").click()
    expect(page.locator("#stage-words")).to_contain_text("step 2 of 8")
    assert page.locator(".cell.later").count() > 0
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".cell.later")).to_have_count(0)
    visit.check_manners()

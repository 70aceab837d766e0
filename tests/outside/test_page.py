"""The page in a real browser: what a visitor does, what it shows, and that it asks nobody else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from .conftest import ROOT, SAMPLES, service

CLIP = SAMPLES / "bridge_down.mp4"
ODD = ROOT / "tests" / "fixtures" / "video"
SLOW_BYTES_PER_SECOND = 15_000
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
        assert [text for text in self.complaints if not any(part in text for part in expected)] == []
        assert self.hosts - {""} == {urlsplit(self.url).netloc}


@pytest.fixture
def visit(context: BrowserContext, url: str) -> Visit:
    return Visit(context, url)


def faults(page: Page) -> list[str]:
    """What axe-core finds of a serious kind."""
    found = Axe().run(page).response["violations"]
    return [
        f"{fault['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for fault in found
        if fault["impact"] in SERIOUS
        for node in fault["nodes"]
    ]


def answered(page: Page) -> None:
    expect(page.locator(".top-score")).to_be_visible(timeout=20_000)


def test_a_sample_with_one_click(visit: Visit) -> None:
    page = visit.start()
    expect(page.locator("#empty")).to_be_visible()
    expect(page.get_by_role("button", name="bridge up")).to_be_visible()
    page.get_by_role("button", name="bridge down").click()
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("bridge down")
    expect(page.locator("#empty")).to_be_hidden()
    expect(page.locator("#cost")).to_contain_text("GFLOPs")
    expect(page.locator("#cost")).to_contain_text("Milliseconds")
    expect(page.locator("#live")).to_contain_text("bridge down")
    assert page.locator(".cell.seen").count() + page.locator(".cell.unseen").count() == 8
    visit.check_manners()


def test_an_uploaded_file_step_by_step(visit: Visit) -> None:
    page = visit.start()
    page.get_by_label("full never stops early").check()
    page.locator("#file").set_input_files(CLIP)
    answered(page)
    cells = page.locator(".cell-button")
    expect(cells).to_have_count(8)
    order = [int(text) for text in page.locator(".cell-order").all_inner_texts()]
    assert sorted(order) == list(range(1, 9))
    assert order[3] == 1, "the middle frame is visited first"
    expect(page.locator("#stage-words")).to_contain_text("step 8 of 8")
    cells.nth(3).click()
    expect(page.locator("#stage-words")).to_contain_text("step 1 of 8")
    expect(cells.nth(3)).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Next step").click()
    expect(page.locator("#stage-words")).to_contain_text("step 2 of 8")
    expect(page.locator("#picture")).to_have_attribute("aria-label", re.compile("with the patch of step 2"))
    assert page.locator(".dot").count() == 8
    visit.check_manners()


def test_a_dropped_file(visit: Visit) -> None:
    page = visit.start()
    page.evaluate(
        """async (address) => {
            const blob = await (await fetch(address)).blob();
            const transfer = new DataTransfer();
            transfer.items.add(new File([blob], "dropped.mp4"));
            for (const name of ["dragenter", "dragover", "drop"])
                document.getElementById("drop").dispatchEvent(
                    new DragEvent(name, { bubbles: true, cancelable: true, dataTransfer: transfer }));
        }""",
        "samples/no_action.mp4",
    )
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("no action")
    expect(page.locator("#input-hint")).to_contain_text("dropped.mp4")
    visit.check_manners()


def drop(visit: Visit, *files: Path) -> None:
    """Let go of files over the page, as a file manager does: a folder is one of them."""
    place = visit.page.locator("#drop").bounding_box()
    data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        visit.devtools.send("Input.dispatchDragEvent", {"type": kind, "x": place["x"], "y": place["y"], "data": data})


def test_of_several_dropped_files_the_first_is_taken_and_said_to_be(visit: Visit) -> None:
    visit.start()
    drop(visit, SAMPLES / "no_action.mp4", CLIP)
    answered(visit.page)
    expect(visit.page.locator("#answer .top-label")).to_have_text("no action")
    expect(visit.page.locator("#input-hint")).to_contain_text("the first of 2 files")
    visit.check_manners()


def test_a_folder_and_a_file_that_has_gone_are_not_called_a_failed_connection(visit: Visit, tmp_path: Path) -> None:
    page = visit.start()
    alert = page.get_by_role("alert")
    drop(visit, tmp_path)
    expect(alert).to_contain_text("It is a folder, or was moved")
    expect(page.locator("#empty")).to_be_visible()
    (tmp_path / "clip.mp4").write_bytes(CLIP.read_bytes())
    page.locator("#file").set_input_files(tmp_path / "clip.mp4")
    answered(page)
    expect(alert).to_be_empty()
    (tmp_path / "clip.mp4").unlink()
    page.get_by_label("full never stops early").click()
    expect(alert).to_contain_text("moved, changed or deleted")
    expect(page.locator("#answer .top-label")).to_have_text("bridge down")
    visit.check_manners()


def test_a_name_is_shown_as_text_and_a_long_one_without_its_middle(visit: Visit, tmp_path: Path) -> None:
    page = visit.start()
    markup = "<img src=x onerror=alert(1)><b>bold.mp4"
    for name, shown in ((markup, markup), ("l" * 240 + " tank.mp4", "lll… tank.mp4")):
        (tmp_path / name).write_bytes(CLIP.read_bytes())
        page.locator("#file").set_input_files(tmp_path / name)
        hint = page.locator("#input-hint")
        expect(hint).to_have_attribute("title", name)
        beginning, _, ending = shown.partition("…")
        expect(hint).to_contain_text(beginning)
        expect(hint).to_contain_text(ending)
        assert len(hint.inner_text()) < 80
        assert hint.locator("*").count() == 0
        answered(page)
    visit.check_manners()


def test_a_recording_from_the_camera(visit: Visit) -> None:
    page = visit.start()
    page.get_by_role("button", name="Record", exact=True).click()
    page.get_by_role("button", name="Record 5 seconds").click()
    expect(page.locator("#camera-words")).to_contain_text("Recording")
    answered(page)
    expect(page.locator("#camera")).to_be_hidden()
    expect(page.locator("#input-hint")).to_contain_text("Recording")
    visit.check_manners()


def until(page: Page, condition: str) -> None:
    """Ask again and again: waiting inside the page needs an eval, which its content security policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never came true: {condition}")


def test_the_camera_can_be_declined(visit: Visit) -> None:
    page = visit.start()
    page.get_by_role("button", name="Record", exact=True).click()
    expect(page.locator("#camera-go")).to_be_enabled()
    page.keyboard.press("Escape")
    expect(page.locator("#camera")).to_be_hidden()
    expect(page.get_by_role("button", name="Record", exact=True)).to_be_focused()
    # A dialog hides first and says that it closed in a task of its own.
    until(page, "document.getElementById('viewfinder').srcObject === null")
    visit.check_manners()


def test_a_camera_that_comes_after_the_dialog_closed_is_let_go(visit: Visit) -> None:
    page = visit.start()
    page.evaluate(
        """() => {
            const devices = navigator.mediaDevices;
            const real = devices.getUserMedia.bind(devices);
            devices.getUserMedia = async (wanted) => {
                await new Promise((resolve) => (window.permit = resolve));
                return (window.lateStream = await real(wanted));
            };
        }"""
    )
    page.get_by_role("button", name="Record", exact=True).click()
    page.keyboard.press("Escape")
    expect(page.locator("#camera")).to_be_hidden()
    page.evaluate("permit()")
    until(page, "!!window.lateStream?.getTracks().every((track) => track.readyState === 'ended')")
    assert page.evaluate("document.getElementById('viewfinder').srcObject") is None
    visit.check_manners()


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
    expect(page.locator("#answer .top-label")).to_have_text("bridge down")
    expect(page.locator("#cancelled")).to_be_hidden()
    visit.check_manners()


def test_a_slow_upload_is_answered(visit: Visit) -> None:
    """The answer may come before the last byte was sent."""
    page = visit.start()
    visit.slow_down()
    page.locator("#file").set_input_files(SAMPLES / "bridge_up.mp4")
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("bridge up")
    visit.check_manners()


def test_another_clip_while_one_is_on_its_way(visit: Visit) -> None:
    page = visit.start()
    visit.slow_down()
    page.locator("#file").set_input_files(CLIP)
    expect(page.locator("#progress")).to_be_visible()
    page.get_by_role("button", name="no action").click()
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("no action")
    expect(page.locator("#progress")).to_be_hidden()
    visit.check_manners()


def test_a_sample_that_comes_after_another_was_asked_for_is_not_wanted(visit: Visit) -> None:
    page = visit.start()
    late: list[Route] = []
    page.route("**/samples/bridge_down.mp4", lambda route: late.append(route))
    page.get_by_role("button", name="bridge down").dblclick()
    page.get_by_role("button", name="no action").click()
    answered(page)
    for route in late:
        with page.expect_event("requestfinished", lambda request: request.url.endswith("bridge_down.mp4")):
            route.continue_()
    page.get_by_role("button", name="Run full").click()
    expect(page.locator("#compare tr.current")).to_contain_text("8 of 8", timeout=20_000)
    expect(page.locator("#input-hint")).to_contain_text("no_action.mp4")
    expect(page.locator("#answer .top-label")).to_have_text("no action")
    visit.check_manners()


def test_a_sample_that_cannot_be_fetched_is_tried_again(visit: Visit) -> None:
    page = visit.start()
    alert = page.get_by_role("alert")
    page.route("**/samples/no_action.mp4", lambda route: route.abort())
    page.get_by_role("button", name="no action").click()
    expect(alert).to_contain_text("does not answer")
    page.unroute("**/samples/no_action.mp4")
    page.route("**/samples/no_action.mp4", lambda route: route.fulfill(status=404))
    page.get_by_role("button", name="Try again").click()
    expect(alert).to_contain_text("status 404")
    page.unroute("**/samples/no_action.mp4")
    page.get_by_role("button", name="Try again").click()
    answered(page)
    visit.check_manners("ERR_FAILED", "404")


def test_what_is_no_video_is_refused_with_its_reason(visit: Visit, tmp_path: Path) -> None:
    page = visit.start()
    (tmp_path / "notes.txt").write_text("not a video\n" * 100)
    page.locator("#file").set_input_files(tmp_path / "notes.txt")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Not a supported video")
    expect(alert).to_contain_text("unsupported_media")
    expect(alert).to_contain_text("request ")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)  # the same clip would be refused again
    expect(page.locator("#results")).to_be_hidden()
    page.get_by_role("button", name="no action").click()
    answered(page)
    expect(alert).to_be_empty()
    visit.check_manners("415")


def test_a_browser_is_not_made_to_play_what_the_service_refuses(visit: Visit, tmp_path: Path) -> None:
    """Given a playlist, Chromium would go and fetch what that names; of an empty file it complains."""
    page = visit.start()
    playlist = (ODD / "hls_playlist.m3u8").read_bytes()
    (tmp_path / "playlist.mp4").write_bytes(playlist)
    (tmp_path / "empty.webm").touch()
    refused = {
        ODD / "hls_playlist.m3u8": "unsupported_media",
        tmp_path / "playlist.mp4": "unsupported_media",
        tmp_path / "empty.webm": "empty_body",
        ODD / "audio_with_cover_art.m4a": "no_video_stream",
        ODD / "cbcs_encrypted_decodes_garbage.mp4": "undecodable",
        ODD / "bomb_8k_black_60f.mp4": "too_many_pixels",
    }
    for file, code in refused.items():
        page.locator("#file").set_input_files(file)
        expect(page.locator("#input-hint")).to_contain_text(file.name)
        expect(page.get_by_role("alert")).to_contain_text(code, timeout=20_000)
        expect(page.locator("#results")).to_be_hidden()
    visit.check_manners("status of 4")


def test_what_this_browser_plays_badly_or_not_at_all_is_shown_all_the_same(visit: Visit, tmp_path: Path) -> None:
    page = visit.start()
    (tmp_path / "a video.m3u8").write_bytes(CLIP.read_bytes())
    for file in (tmp_path / "a video.m3u8", *(ODD / name for name in ("mpeg1_ps.mpg", "truncated_ts_midpacket.ts"))):
        page.locator("#file").set_input_files(file)
        expect(page.locator("#input-hint")).to_contain_text(file.name)
        answered(page)
        expect(page.locator("#stage-words")).to_contain_text("step ")
    visit.check_manners()


def test_a_frame_is_shown_in_the_clips_own_shape_where_the_browser_can_play_it(visit: Visit) -> None:
    page = visit.start()
    page.locator("#file").set_input_files(CLIP)
    answered(page)
    until(page, "(({ width, height }) => width > 1.2 * height)(document.getElementById('picture'))")
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
    page.get_by_role("button", name="train in out").click()
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


def test_the_rest_is_run_once_however_often_it_is_asked_for(visit: Visit) -> None:
    page = visit.start()
    asked: list[str] = []
    page.on("request", lambda request: asked.extend(re.findall("classify.exit=([a-z]+)", request.url)))
    visit.slow_down()
    page.get_by_role("button", name="train in out").click()
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
    expect(page.locator("#answer .top-label")).to_have_text("bridge down")
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
    page.get_by_role("button", name="no action").click()
    answered(page)
    visit.check_manners()


def test_a_point_that_was_left_does_not_come_back(visit: Visit) -> None:
    page = visit.start()
    page.get_by_role("button", name="train in out").click()
    answered(page)
    visit.slow_down()
    page.get_by_label("full never stops early").check()
    expect(page.locator("#progress")).to_be_visible()
    with page.expect_event("requestfailed", lambda request: "exit=full" in request.url):
        page.locator("input[name=point][value=balanced]").check()
    expect(page.locator("#progress")).to_be_hidden()
    expect(page.locator("#compare")).not_to_contain_text("8 of 8")
    expect(page.locator("#answer .top-label")).to_have_text("train in out")
    visit.check_manners("ERR_ABORTED")


def test_a_slow_replay(visit: Visit) -> None:
    page = visit.start()
    page.get_by_label("full never stops early").check()
    page.get_by_role("button", name="bridge down").click()
    answered(page)
    page.get_by_role("button", name="Replay slowly").click()
    expect(page.locator("#stage-words")).to_contain_text("step 2 of 8")
    assert page.locator(".cell.later").count() > 0
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".cell.later")).to_have_count(0)
    visit.check_manners()


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
    page.get_by_role("button", name="bridge down").click()
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


@pytest.fixture(scope="module")
def locked() -> Iterator[str]:
    with service(ADAFOCUS_API_KEYS="sesame") as address:
        yield address


def test_a_key_is_asked_for_and_kept_for_the_tab(context: BrowserContext, locked: str) -> None:
    visit = Visit(context, locked)
    page = visit.open()
    expect(page.locator("#door-words")).to_be_empty()
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#door-words")).to_have_text("That key was not accepted.")
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#door")).to_be_hidden()
    page.get_by_role("button", name="no action").click()
    answered(page)
    page.reload()
    expect(page.locator("#model")).to_contain_text("ready")
    visit.check_manners("401")


def test_a_door_that_was_closed_without_a_key_can_be_opened_again(context: BrowserContext, locked: str) -> None:
    visit = Visit(context, locked)
    page = visit.open()
    for _ in range(2):
        expect(page.get_by_label("API key")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.get_by_role("alert").first).to_contain_text("asks for a key")
        expect(page.get_by_role("button", name="Choose a file")).to_be_disabled()
        page.get_by_role("button", name="Try again").click()
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_contain_text("ready")
    expect(page.locator("#alert")).to_be_empty()
    expect(page.get_by_role("button", name="Choose a file")).to_be_enabled()
    page.get_by_role("button", name="no action").click()
    answered(page)
    visit.check_manners("401")


def test_a_key_that_is_no_longer_accepted_is_asked_for_again(context: BrowserContext, locked: str) -> None:
    visit = Visit(context, locked)
    page = visit.open()
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    expect(page.locator("#model")).to_contain_text("ready")
    page.evaluate("sessionStorage.setItem('adafocus-key', 'rotated away')")
    page.get_by_role("button", name="no action").click()
    expect(page.locator("#door-words")).to_have_text("That key was not accepted.")
    page.get_by_label("API key").fill("sesame")
    page.keyboard.press("Enter")
    answered(page)
    visit.check_manners("401")


def test_the_keyboards_focus_outlives_what_it_was_on(visit: Visit) -> None:
    page = visit.start()

    def focused() -> str:
        return str(page.evaluate("document.activeElement.id || document.activeElement.dataset.point"))

    page.get_by_role("button", name="bridge down").click()
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
    page.get_by_role("button", name="bridge down").click()
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

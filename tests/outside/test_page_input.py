"""The page in a real browser: every way to give it a clip, and what it says of those that it cannot take."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.sync_api import Route, expect

from .visit import CLIP, ODD, SAMPLES, Visit, answered, until


def test_a_sample_with_one_click(visit: Visit) -> None:
    page = visit.start()
    expect(page.locator("#empty")).to_be_visible()
    expect(page.get_by_role("button", name="drone", exact=True)).to_be_visible()
    page.get_by_role("button", name="helicopter").click()
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("helicopter")
    expect(page.locator("#empty")).to_be_hidden()
    expect(page.locator("#cost")).to_contain_text("GFLOPs")
    expect(page.locator("#cost")).to_contain_text("Milliseconds")
    expect(page.locator("#live")).to_contain_text("helicopter")
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
        "samples/airplane.mp4",
    )
    answered(page)
    expect(page.locator("#answer .top-label")).to_have_text("airplane")
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
    drop(visit, SAMPLES / "airplane.mp4", CLIP)
    answered(visit.page)
    expect(visit.page.locator("#answer .top-label")).to_have_text("airplane")
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
    expect(page.locator("#answer .top-label")).to_have_text("helicopter")
    # where the browser had not read all of it for its preview, it says on its own that the file has gone
    visit.check_manners("ERR_FILE_NOT_FOUND")


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


def test_a_sample_that_comes_after_another_was_asked_for_is_not_wanted(visit: Visit) -> None:
    page = visit.start()
    late: list[Route] = []
    page.route("**/samples/helicopter.mp4", lambda route: late.append(route))
    page.get_by_role("button", name="helicopter").dblclick()
    page.get_by_role("button", name="airplane", exact=True).click()
    answered(page)
    for route in late:
        with page.expect_event("requestfinished", lambda request: request.url.endswith("helicopter.mp4")):
            route.continue_()
    page.get_by_role("button", name="Run full").click()
    expect(page.locator("#compare tr.current")).to_contain_text("8 of 8", timeout=20_000)
    expect(page.locator("#input-hint")).to_contain_text("airplane.mp4")
    expect(page.locator("#answer .top-label")).to_have_text("airplane")
    visit.check_manners()


def test_a_sample_that_cannot_be_fetched_is_tried_again(visit: Visit) -> None:
    page = visit.start()
    alert = page.get_by_role("alert")
    page.route("**/samples/airplane.mp4", lambda route: route.abort())
    page.get_by_role("button", name="airplane", exact=True).click()
    expect(alert).to_contain_text("does not answer")
    page.unroute("**/samples/airplane.mp4")
    page.route("**/samples/airplane.mp4", lambda route: route.fulfill(status=404))
    page.get_by_role("button", name="Try again").click()
    expect(alert).to_contain_text("status 404")
    page.unroute("**/samples/airplane.mp4")
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
    page.get_by_role("button", name="airplane", exact=True).click()
    answered(page)
    expect(alert).to_be_empty()
    visit.check_manners("415")


def test_a_browser_is_not_made_to_play_what_the_service_refuses(visit: Visit, clips: Path, tmp_path: Path) -> None:
    """Given a playlist, Chromium would go and fetch what that names; of an empty file it complains."""
    page = visit.start()
    playlist = (ODD / "hls_playlist.m3u8").read_bytes()
    (tmp_path / "playlist.mp4").write_bytes(playlist)
    (tmp_path / "empty.webm").touch()
    refused = {
        ODD / "hls_playlist.m3u8": "unsupported_media",
        tmp_path / "playlist.mp4": "unsupported_media",
        tmp_path / "empty.webm": "empty_body",
        clips / "audio_with_cover_art.m4a": "no_video_stream",
        clips / "encrypted_but_decodes.mp4": "undecodable",
        ODD / "bomb_8k_black_60f.mp4": "too_many_pixels",
    }
    for file, code in refused.items():
        page.locator("#file").set_input_files(file)
        expect(page.locator("#input-hint")).to_contain_text(file.name)
        expect(page.get_by_role("alert")).to_contain_text(code, timeout=20_000)
        expect(page.locator("#results")).to_be_hidden()
    visit.check_manners("status of 4")


def test_what_this_browser_plays_badly_or_not_at_all_is_shown_all_the_same(
    visit: Visit, clips: Path, tmp_path: Path
) -> None:
    page = visit.start()
    (tmp_path / "a video.m3u8").write_bytes(CLIP.read_bytes())
    for file in (tmp_path / "a video.m3u8", *(clips / name for name in ("mpeg1_ps.mpg", "truncated_ts_midpacket.ts"))):
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

"""`adafocus classify` with the tiny model."""

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from adafocus.cli.jsonlines import JsonLinesFile
from adafocus.cli.main import main
from adafocus.cli.videos import print_left_out
from adafocus.service.errors import Internal
from adafocus.service.schemas.classify import Classification
from tests.e2e.tiny import write_clip, write_parts, write_tiny_bundle


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three clips among other files."""
    monkeypatch.setenv("ADAFOCUS_DECODE_WORKERS", "1")
    folder = tmp_path / "clips"
    (folder / "more").mkdir(parents=True)
    write_clip(folder / "b.mp4", "bright")
    write_clip(folder / "more" / "a.mp4", "grey")
    write_clip(folder / "a.MP4", "dark")
    (folder / "notes.txt").write_text("not a video")
    return folder


def classify(bundle: Path, *arguments: object) -> int:
    return main(["classify", "--bundle", str(bundle), *(str(argument) for argument in arguments)])


def test_one_line_per_video_sorted(bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify(bundle, clips) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    first, second, third = captured.out.splitlines()
    assert first.startswith(f"{clips / 'a.MP4'}: dark ")
    assert second.startswith(f"{clips / 'b.mp4'}: bright ")
    assert third == f"{clips / 'more' / 'a.mp4'}: grey 0.787 · step 2/4 (confident) · 0.01 of 0.02 GFLOPs"


def test_json_is_the_answer_of_http_with_the_file(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--json", "--trace", "--exit", "full", "--top-k", "1", "--max-gflops", "0.016"]
    assert classify(bundle, clips / "b.mp4", *arguments) == 0
    line = json.loads(capsys.readouterr().out)
    assert line.pop("file") == str(clips / "b.mp4")
    told = Classification.model_validate(line)
    assert told.trace is not None
    assert (len(told.predictions), len(told.trace), told.exit.reason) == (1, 3, "max_gflops")


def test_a_broken_file_is_one_line_and_the_run_goes_on(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(bundle, clips / "notes.txt", clips / "none.mp4", clips / "b.mp4") == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 1
    broken, missing = captured.err.splitlines()
    assert broken.startswith(f"adafocus: {clips / 'notes.txt'}: ")
    assert "unsupported_media" in broken
    assert missing == f"adafocus: {clips / 'none.mp4'}: No such file or directory (unreadable)"


def test_a_failure_is_a_row_that_a_later_run_neither_repeats_nor_forgets(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = clips.parent / "answers.jsonl"
    named = (clips / "notes.txt", clips / "none.mp4", clips / "b.mp4")
    assert classify(bundle, *named, "--out", out, "--json") == 1
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert rows == printed
    by_name = {Path(row["file"]).name: row for row in rows}
    assert set(by_name) == {"notes.txt", "none.mp4", "b.mp4"}
    assert by_name["none.mp4"] == {
        "file": str(clips / "none.mp4"),
        "error": {"code": "unreadable", "detail": "No such file or directory"},
    }
    assert by_name["notes.txt"]["error"]["code"] == "unsupported_media"
    assert "error" not in by_name["b.mp4"]
    assert classify(bundle, *named, "--out", out) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    note = f"adafocus: skipped 3 of 3 videos that are in {out} already; 2 of them with an error\n"
    assert captured.err == note
    assert len(out.read_text().splitlines()) == 3
    assert classify(bundle, clips / "b.mp4", "--out", out) == 0, "only the videos that are named count"


def test_a_slow_video_holds_up_no_other(bundle: Path, clips: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The video that is named first comes through a pipe, and only when the others are done."""
    monkeypatch.setenv("ADAFOCUS_DECODE_WORKERS", "2")
    out, pipe = clips.parent / "answers.jsonl", clips / "slow"
    others_done = threading.Event()

    class Observed(JsonLinesFile):
        def append(self, row: dict[str, Any]) -> None:
            super().append(row)
            if len(self.keys) == 3:
                others_done.set()

    def write() -> None:
        others_done.wait(timeout=60)
        pipe.write_bytes((clips / "b.mp4").read_bytes())

    monkeypatch.setattr("adafocus.cli.classify.JsonLinesFile", Observed)
    os.mkfifo(pipe)
    writer = threading.Thread(target=write)
    writer.start()
    assert classify(bundle, pipe, clips, "--out", out) == 0
    writer.join(timeout=60)
    names = [Path(json.loads(line)["file"]).name for line in out.read_text().splitlines()]
    assert names == ["a.MP4", "b.mp4", "a.mp4", "slow"]


def test_an_engine_that_stops_ends_the_run_without_a_row_for_every_video(
    bundle: Path, clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def stopped(runtime: Any, *_: object) -> None:
        monkeypatch.setattr(type(runtime.engine), "alive", property(lambda engine: False))
        raise Internal

    monkeypatch.setattr("adafocus.cli.in_process.classify_video", stopped)
    out = clips.parent / "answers.jsonl"
    assert classify(bundle, clips, "--out", out) == 1
    assert "the engine stopped" in capsys.readouterr().err
    assert out.read_text() == ""


def test_hidden_folders_are_left_out_and_links_are_followed(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in (".stversions", "more/.ipynb_checkpoints"):
        (clips / name).mkdir()
        write_clip(clips / name / "old.mp4", "dark")
    far = clips.parent / "far"
    far.mkdir()
    write_clip(far / "c.mp4", "bright")
    (clips / "site").symlink_to(far)
    (clips / "loop").symlink_to(".")
    assert classify(bundle, clips) == 0
    captured = capsys.readouterr()
    shown = [Path(line.partition(": ")[0]).relative_to(clips).as_posix() for line in captured.out.splitlines()]
    assert shown == ["a.MP4", "b.mp4", "more/a.mp4", "site/c.mp4"]
    assert captured.err == f"left out: {clips / 'loop'} is a link to a folder that contains it\n"


def test_a_link_that_cannot_be_read_is_named_and_the_exit_code_is_1(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "gone.mp4").symlink_to("nowhere.mp4")
    assert classify(bundle, clips) == 1
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert captured.err == f"left out: {clips / 'gone.mp4'} is a link whose target cannot be read\n"


def test_a_name_of_any_bytes_is_classified_and_found_again(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = os.fsencode(clips) + b"/r\xf8d"
    Path(os.fsdecode(raw)).mkdir()
    Path(os.fsdecode(raw + b"/\xff.mp4")).write_bytes((clips / "b.mp4").read_bytes())
    out = clips.parent / "answers.jsonl"
    assert classify(bundle, os.fsdecode(raw), "--out", out, "--draw", clips.parent / "sheet.png") == 0
    assert classify(bundle, os.fsdecode(raw), "--out", out) == 0
    assert len(out.read_text().splitlines()) == 1
    assert "skipped 1 of 1" in capsys.readouterr().err


def test_many_lines_about_what_was_left_out_are_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    print_left_out([f"{number}.mp4 is a link to nothing" for number in range(50)])
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[-1]) == (21, "left out: 30 more")


def test_a_pipe_is_read_like_a_file(bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = clips / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes((clips / "b.mp4").read_bytes()))
    writer.start()
    assert classify(bundle, pipe) == 0
    writer.join(timeout=30)
    assert capsys.readouterr().out.startswith(f"{pipe}: bright ")


def test_a_run_is_resumed_where_it_was_torn(bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clips.parent / "answers.jsonl"
    assert classify(bundle, clips, "--out", out) == 0
    whole = out.read_text().splitlines()
    assert [Path(json.loads(line)["file"]).name for line in whole] == ["a.MP4", "b.mp4", "a.mp4"]
    out.write_text(whole[0] + "\n" + whole[1][:30])
    capsys.readouterr()
    assert classify(bundle, clips, "--out", out) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    again = out.read_text().splitlines()
    assert again[0] == whole[0]
    assert [json.loads(line)["file"] for line in again] == [json.loads(line)["file"] for line in whole]
    assert classify(bundle, clips, "--out", out) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"adafocus: skipped 3 of 3 videos that are in {out} already\n")


@pytest.mark.parametrize(
    ("arguments", "code", "hint"),
    [
        (["--exit", "slow"], 2, "full, accurate, balanced, fast"),
        (["--top-k", "0"], 2, "from 1 to 3"),
        (["--exit", ""], 2, "full, accurate, balanced, fast"),
        (["--top-k", ""], 2, "from 1 to 3"),
        (["--max-gflops", ""], 2, "cost of one step"),
        (["--backend", "abacus"], 1, "onnxruntime-cpu"),
        (["--bundle", "nowhere"], 1, "manifest.json"),
    ],
)
def test_what_is_wrong_is_one_line(
    bundle: Path, clips: Path, arguments: list[str], code: int, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(bundle, clips, *arguments) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("adafocus: ")
    assert hint in line


def test_a_folder_without_videos(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert classify(bundle, tmp_path) == 1
    assert f"no videos in {tmp_path};" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "named", "hint"),
    [
        ("bench", "http://127.0.0.1/clip.mp4", "http://127.0.0.1/clip.mp4 is a URL; download the file"),
        ("classify", "rtsp://127.0.0.1/stream", "a URL must begin with http://"),
        *((verb, "", "use '.' for the current folder") for verb in ("classify", "bench")),
        *((verb, "-", "/dev/stdin") for verb in ("classify", "bench")),
    ],
)
def test_what_only_looks_like_a_file_is_refused(
    verb: str, named: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, named]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert hint in line


def test_an_empty_file_is_called_one(bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clips / "empty.mp4").touch()
    assert classify(bundle, clips / "empty.mp4") == 1
    assert capsys.readouterr().err == f"adafocus: {clips / 'empty.mp4'}: the file is empty (empty_body)\n"


def test_without_a_bundle_it_says_how_to_name_one(tmp_path: Path) -> None:
    from adafocus.cli.configuration import shipped_bundle

    with pytest.raises(Exception, match="--bundle DIR"):
        shipped_bundle(tmp_path)


def test_the_first_bundle_of_the_folder_is_taken(tmp_path: Path) -> None:
    from adafocus.cli.configuration import shipped_bundle

    for name in ("b", "a", "0"):
        (tmp_path / name).mkdir()
    for name in ("b", "a"):
        (tmp_path / name / "manifest.json").touch()
    assert shipped_bundle(tmp_path) == tmp_path / "a"


def test_a_long_video_is_classified_in_windows(bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = write_parts(clips / "long.mp4", [("dark", 4.0), ("bright", 6.0)])
    windows = ("--window", "2", "--exit", "full")
    assert classify(bundle, video, *windows) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"{video}: 5 windows, 2 events · 0.1 of 0.1 GFLOPs"
    assert [line.rsplit(" ", 1)[0] for line in told[1:]] == [
        "  0:00:00.0 to 0:00:04.0: dark",
        "  0:00:04.0 to 0:00:10.0: bright",
    ]
    assert (
        classify(bundle, video, *windows, "--stride", "1", "--event-min", "3", "--event-threshold", "0.6", "--json")
        == 0
    )
    row = json.loads(capsys.readouterr().out)
    assert [(it["start_s"], it["end_s"]) for it in row["segments"]] == [(n, n + 2) for n in range(9)]
    assert [it["label"] for it in row["events"]] == ["dark", "bright"]


def test_options_of_windows_are_checked_before_the_work(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(bundle, clips, "--stride", "1") == 2
    assert "stride_s needs window_s" in capsys.readouterr().err

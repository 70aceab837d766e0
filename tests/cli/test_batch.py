"""`adafocus batch` with the tiny model: one row for each input, whatever happens on the way."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from adafocus.cli.main import main
from adafocus.cli.offline.formats import arrow_schema
from adafocus.service.errors import Internal
from adafocus.service.schemas.classify import Classification
from tests.conftest import ROOT
from tests.e2e.tiny import write_clip, write_parts, write_tiny_bundle

VARYING = {"frames_decoded", "decode_cpu_ms"}
"""What an answer costs depends on how far its decoder ran ahead, too."""

KILLED = """
import os, signal, sys
from adafocus.cli.main import main
from adafocus.cli.offline.store import ResultStore

left = int(sys.argv[1])
append = ResultStore.append
def dying(store, row):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    append(store, row)
ResultStore.append = dying
sys.exit(main(sys.argv[2:]))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture
def clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of eight clips, and one that is broken."""
    monkeypatch.setenv("ADAFOCUS_DECODE_WORKERS", "1")
    folder = tmp_path / "clips"
    folder.mkdir()
    for number in range(8):
        write_clip(folder / f"{number}.mp4", ("dark", "grey", "bright")[number % 3])
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def batch(bundle: Path, *arguments: object) -> int:
    return main(["batch", "--bundle", str(bundle), *(str(argument) for argument in arguments)])


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of all parts by name, without what differs from run to run: times, and how far decoders ran ahead."""
    lines = [line for part in sorted(folder.glob("*.jsonl")) for line in part.read_text().splitlines()]
    rows = [json.loads(line) for line in lines]
    rows += [row for part in sorted(folder.glob("*.parquet")) for row in parquet.read_table(part).to_pylist()]
    for row in rows:
        if row.get("compute"):
            row["timing_ms"] = dict.fromkeys(row["timing_ms"], 0.0)
            row["compute"] |= dict.fromkeys(VARYING & row["compute"].keys(), 0)
    return sorted((without_nulls(row) for row in rows), key=lambda row: str(row["file"]))


def without_nulls(value: Any) -> Any:
    """The value without members that are null: a column is there for every row, a member only where it applies."""
    if isinstance(value, dict):
        return {name: without_nulls(each) for name, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list) else value


def test_every_input_has_a_row_and_a_broken_one_a_row_with_its_code(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = clips.parent / "out"
    assert batch(bundle, clips, "--out", out, "--rows-per-part", 4, "--trace", "--top-k", 1, "--exit", "fast") == 0
    assert [path.name for path in sorted(out.glob("*.jsonl"))] == [f"results-0000{number}.jsonl" for number in range(3)]
    rows = read_rows(out)
    assert [row["file"] for row in rows] == [
        *(str(clips / f"{number}.mp4") for number in range(8)),
        str(clips / "broken.mp4"),
    ]
    assert rows.pop()["error"]["code"] == "unsupported_media"
    for number, row in enumerate(rows):
        del row["file"]
        answer = Classification.model_validate(row)
        assert answer.predictions[0].label == ("dark", "grey", "bright")[number % 3]
        assert (answer.exit.point, len(answer.trace or ())) == ("fast", 1)
    told = capsys.readouterr().out
    assert "9, 8 answered; errors: 1 unsupported_media" in told
    assert "mean step 1.00 of 4; 8 confident" in told
    summary = json.loads((out / "_summary.json").read_text())
    assert (summary["videos"], summary["errors"], summary["exits"]) == (9, {"unsupported_media": 1}, {"confident": 8})
    assert summary["gflops"] == pytest.approx(sum(row["compute"]["gflops"] for row in rows))


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_run_that_is_killed_again_and_again_has_the_rows_of_one_that_was_not(
    form: str, bundle: Path, clips: Path
) -> None:
    arguments = ["batch", str(clips), "--bundle", str(bundle), "--format", form, "--rows-per-part", "4", "--out"]
    out, kills = clips.parent / "killed", 0
    while True:
        command = [sys.executable, "-c", KILLED, str(random.randint(1, 4)), *arguments, str(out)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert done.returncode == 0, done.stderr
    assert kills >= 2
    assert main([*arguments, str(clips.parent / "whole")]) == 0
    assert read_rows(out) == read_rows(clips.parent / "whole")


def test_shards_have_the_rows_of_one_run_between_them(bundle: Path, clips: Path) -> None:
    out = clips.parent / "shards"
    for index in (1, 0):
        assert batch(bundle, clips, "--out", out, "--shard", f"{index}/2") in (0, 1), "the broken one may be alone"
    assert batch(bundle, clips, "--out", clips.parent / "whole") == 0
    assert read_rows(out) == read_rows(clips.parent / "whole")
    assert {path.name for path in out.glob("_summary*")} == {"_summary-0-of-2.json", "_summary-1-of-2.json"}


def test_parquet_has_the_same_rows(bundle: Path, clips: Path) -> None:
    manifest = clips / "list.csv"
    manifest.write_text("file\n0.mp4\n1.mp4\nbroken.mp4\nnone.mp4\n0.mp4\n")
    for form in ("jsonl", "parquet"):
        assert batch(bundle, manifest, "--out", clips.parent / form, "--format", form, "--trace") == 0
    lines, table = read_rows(clips.parent / "jsonl"), read_rows(clips.parent / "parquet")
    assert [row["file"] for row in lines] == ["0.mp4", "1.mp4", "broken.mp4", "none.mp4"]
    assert [row["error"]["code"] for row in lines[2:]] == ["unsupported_media", "unreadable"]
    assert table == lines


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_long_videos_are_classified_in_windows(form: str, bundle: Path, clips: Path) -> None:
    out = clips.parent / "windows"
    write_parts(clips / "long.mp4", [("dark", 2.0), ("bright", 2.0)])
    assert batch(bundle, clips / "long.mp4", "--out", out, "--format", form, "--window", 1, "--max-decode-ms", 9e5) == 0
    (row,) = read_rows(out)
    assert [segment["start_s"] for segment in row["segments"]] == [0.0, 1.0, 2.0, 3.0]
    assert [event["label"] for event in row["events"]] == ["dark", "bright"]
    summary = json.loads((out / "_summary.json").read_text())
    assert summary["gflops"] == pytest.approx(sum(segment["compute"]["gflops"] for segment in row["segments"]))


def test_every_field_of_an_answer_is_a_column() -> None:
    import pyarrow

    assert arrow_schema(pyarrow).names == ["file", "error", *Classification.model_fields]


def test_a_finished_run_does_nothing_and_one_with_more_inputs_does_only_those(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = clips.parent / "out"
    assert batch(bundle, clips / "0.mp4", "--out", out) == 0
    capsys.readouterr()
    assert batch(bundle, clips / "0.mp4", clips / "1.mp4", clips / "1.mp4", "--out", out, "--json") == 0
    captured = capsys.readouterr()
    assert captured.err == "adafocus: 1 of 2 videos have a row already\n"
    assert json.loads(captured.out)["this_run"]["videos"] == 1
    assert batch(bundle, clips / "0.mp4", clips / "1.mp4", "--out", out) == 0
    assert "this run" not in capsys.readouterr().out
    assert len(read_rows(out)) == 2


def test_errors_can_be_tried_again(bundle: Path, clips: Path) -> None:
    out = clips.parent / "out"
    assert batch(bundle, clips / "0.mp4", clips / "broken.mp4", "--out", out) == 0
    write_clip(clips / "broken.mp4")
    assert batch(bundle, clips / "0.mp4", clips / "broken.mp4", "--out", out) == 0
    assert "error" in read_rows(out)[1], "not unless it is asked for"
    assert batch(bundle, clips / "0.mp4", clips / "broken.mp4", "--out", out, "--retry-errors") == 0
    assert ["error" in row for row in read_rows(out)] == [False, False]


def test_a_run_of_nothing_but_errors_fails(bundle: Path, clips: Path) -> None:
    assert batch(bundle, clips / "broken.mp4", "--out", clips.parent / "out") == 1
    assert len(read_rows(clips.parent / "out")) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--exit", "full"], 'with parameters {"exit": "balanced"'),
        (["--shard", "0/2"], "with shards 1, and this run has 2"),
        (["--format", "parquet"], "with format jsonl, and this run has parquet"),
    ],
)
def test_rows_of_two_kinds_are_never_mixed(
    options: list[str], message: str, bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = clips.parent / "out"
    assert batch(bundle, clips / "0.mp4", "--out", out) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert batch(bundle, clips, "--out", out, *options) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert {path: path.read_bytes() for path in out.iterdir()} == before


def test_nor_those_of_two_models(bundle: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = clips.parent / "out"
    assert batch(bundle, clips / "0.mp4", "--out", out) == 0
    other = write_tiny_bundle(tmp_path / "other", version="2").path
    assert batch(other, clips, "--out", out) == 1
    assert "holds results with model" in capsys.readouterr().err


def test_a_folder_that_holds_something_else_is_refused(
    bundle: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clips / "_run.json").write_text("{}")
    assert batch(bundle, clips / "0.mp4", "--out", clips) == 1
    assert "_run.json does not describe a run; choose another folder" in capsys.readouterr().err


def test_an_engine_that_stops_ends_the_run_without_error_rows(
    bundle: Path, clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def stopped(runtime: Any, *_: object) -> None:
        monkeypatch.setattr(type(runtime.engine), "alive", property(lambda engine: False))
        raise Internal

    monkeypatch.setattr("adafocus.cli.in_process.classify_video", stopped)
    out = clips.parent / "out"
    assert batch(bundle, clips, "--out", out) == 1
    assert "the engine stopped" in capsys.readouterr().err
    assert read_rows(out) == []
    assert not (out / "_summary.json").exists(), "it would say that the run is complete"


def test_without_pyarrow_it_says_what_to_install(
    bundle: Path, clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert batch(bundle, clips, "--out", clips.parent / "out", "--format", "parquet") == 1
    assert "'.[serve,parquet]'" in capsys.readouterr().err
    assert not (clips.parent / "out").exists()


def test_without_ray_it_says_what_to_install(
    bundle: Path, clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert batch(bundle, clips, "--out", clips.parent / "out", "--ray", "auto") == 1
    assert "--ray needs the package 'ray'" in capsys.readouterr().err


def test_names_that_are_not_utf8_are_escaped(bundle: Path, clips: Path) -> None:
    odd = clips / "odd" / os.fsdecode(b"\xff.mp4")
    odd.parent.mkdir()
    write_clip(clips / "odd" / "x.mp4").rename(odd)
    for form in ("jsonl", "parquet"):
        assert batch(bundle, odd.parent, "--out", clips.parent / form, "--format", form) == 0
        (row,) = read_rows(clips.parent / form)
        assert row["file"] == f"{odd.parent}/\\xff.mp4"

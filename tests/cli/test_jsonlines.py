"""The file of answers that a run is resumed from."""

import json
from pathlib import Path

import click
import pytest

from adafocus.cli.jsonlines import JsonLinesFile


def line(name: str) -> str:
    return json.dumps({"file": name, "id": "x"})


def test_a_new_file_is_made_and_keeps_lines(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with JsonLinesFile(path) as store:
        assert store.keys == set()
        store.append({"file": "a.mp4", "id": "x"})
    assert path.read_text() == line("a.mp4") + "\n"


def test_what_is_there_is_known_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(line("a.mp4") + "\n" + line("b.mp4") + "\n")
    with JsonLinesFile(path) as store:
        assert store.keys == {"a.mp4", "b.mp4"}
        store.append({"file": "c.mp4", "id": "x"})
    assert [json.loads(text)["file"] for text in path.read_text().splitlines()] == ["a.mp4", "b.mp4", "c.mp4"]


def test_rows_that_are_errors_are_known(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    error = {"code": "undecodable", "detail": "x"}
    path.write_text(line("a.mp4") + "\n" + json.dumps({"file": "b.mp4", "error": error}) + "\n")
    with JsonLinesFile(path) as store:
        assert (store.keys, store.failed) == ({"a.mp4", "b.mp4"}, {"b.mp4"})
        store.append({"file": "c.mp4", "error": error})
        assert store.failed == {"b.mp4", "c.mp4"}


@pytest.mark.parametrize("length", range(1, len(line("b.mp4")) + 1))
def test_a_torn_last_line_is_cut_off_wherever_it_was_torn(tmp_path: Path, length: int) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text(line("a.mp4") + "\n" + line("b.mp4")[:length])
    with JsonLinesFile(path) as store:
        assert store.keys == {"a.mp4"}
        store.append({"file": "b.mp4", "id": "x"})
    assert path.read_text() == line("a.mp4") + "\n" + line("b.mp4") + "\n"


@pytest.mark.parametrize("text", ["my notes\n", '{"other": 1}\n', "[]\n", '{"file": 3}\n'])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(text + line("a.mp4"))
    with pytest.raises(click.ClickException, match="line 1 is not a result"):
        JsonLinesFile(path)
    assert path.read_text() == text + line("a.mp4")

"""The store of results: exactly one row for each input, at whatever moment its writer is killed."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from adafocus.cli.offline.formats import FormatName, Row, open_format
from adafocus.cli.offline.shards import Shard
from adafocus.cli.offline.store import ResultStore
from tests.conftest import ROOT

KILLED = """
import os, signal, sys
from pathlib import Path
from adafocus.cli.offline import store
from adafocus.cli.offline.formats import open_format
from adafocus.cli.offline.shards import Shard

def run(folder, form, moment):
    left = [moment]
    def dies(before):
        left[0] -= 1
        if left[0] < 0:
            before()
            os.kill(os.getpid(), signal.SIGKILL)
    def dying(function):
        def call(*given, **named):
            dies(lambda: None)
            result = function(*given, **named)
            dies(lambda: None)
            return result
        return call
    def torn(row):
        line = to_line(row)
        journals = list(folder.glob(".*.journal"))
        dies(lambda: journals[0].open("ab").write(line[:len(line) // 2]))
        return line
    to_line, store.to_line = store.to_line, torn
    for name in ("replace", "unlink"):
        setattr(Path, name, dying(getattr(Path, name)))
    os.fsync = dying(os.fsync)
    with store.ResultStore(folder, Shard(), open_format(form), rows_per_part=3, seen=lambda row: None) as results:
        for number in range(8):
            if f"{number}.mp4" not in results.names:
                results.append({"file": f"{number}.mp4", "error": {"code": "x", "detail": str(number)}})

moments = 0
while True:
    folder = Path(sys.argv[1]) / str(moments)
    child = os.fork()
    if child == 0:
        try:
            run(folder, sys.argv[2], moments)
        finally:
            os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != -signal.SIGKILL:
        break
    moments += 1
print(moments)
"""


def row(number: int) -> Row:
    return {"file": f"{number}.mp4", "error": {"code": "x", "detail": str(number)}}


def open_store(
    folder: Path,
    form: FormatName = "jsonl",
    *,
    shard: Shard = Shard(),  # noqa: B008 - it is frozen
    rows_per_part: int = 3,
    drop: Callable[[Row], bool] = lambda row: False,
) -> ResultStore:
    return ResultStore(folder, shard, open_format(form), rows_per_part=rows_per_part, seen=lambda row: None, drop=drop)


def rows_in(folder: Path, form: FormatName) -> list[Row]:
    """The rows that a reader finds who knows nothing of the journal."""
    return [row for path in sorted(folder.glob(f"*.{form}")) for row in open_format(form).read(path)]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_no_row_is_lost_or_twice_whichever_operation_is_the_last(form: FormatName, tmp_path: Path) -> None:
    """The writer is killed before and after each of its operations on files, and in the middle of each line."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), form], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    moments = int(done.stdout)
    assert moments > 30
    for moment in range(moments):
        folder = tmp_path / str(moment)
        before = rows_in(folder, form) if folder.exists() else []
        with open_store(folder, form) as store:
            survived = {f"{number}.mp4" for number in range(8)} & store.names
            assert survived >= {each["file"] for each in before}
            for number in range(8):
                if f"{number}.mp4" not in store.names:
                    store.append(row(number))
        rows = rows_in(folder, form)
        assert sorted(rows, key=lambda row: str(row["file"])) == [row(number) for number in range(8)], moment
        assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"], moment


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_row_that_was_appended_survives_and_is_counted_once(form: FormatName, tmp_path: Path) -> None:
    seen: list[Row] = []
    with pytest.raises(KeyboardInterrupt), open_store(tmp_path, form) as store:
        for number in range(4):
            store.append(row(number))
        raise KeyboardInterrupt
    assert [path.name for path in store.parts] == [f"results-00000.{form}"]
    with ResultStore(tmp_path, Shard(), open_format(form), rows_per_part=3, seen=seen.append) as store:
        assert seen == [row(number) for number in range(4)]
    assert rows_in(tmp_path, form) == seen


def test_what_follows_an_incomplete_line_is_dropped(tmp_path: Path) -> None:
    journal = tmp_path / ".results-00000.journal"
    whole = json.dumps(row(0)).encode() + b"\n"
    journal.write_bytes(whole + bytes(20) + b"\n" + json.dumps(row(1)).encode() + b"\n")
    with open_store(tmp_path) as store:
        assert store.names == {"0.mp4"}
    assert rows_in(tmp_path, "jsonl") == [row(0)]


def test_a_part_that_is_no_file_of_results_is_named(tmp_path: Path) -> None:
    for form in ("jsonl", "parquet"):
        (tmp_path / f"results-00000.{form}").write_text('{"a": 1}\n')
        with pytest.raises(click.ClickException, match=rf"results-00000\.{form} is not a file of results"):
            open_store(tmp_path, form)  # type: ignore[arg-type]


def test_one_process_writes_at_a_time_and_other_shards_do_not_matter(tmp_path: Path) -> None:
    with open_store(tmp_path, shard=Shard(0, 2)) as first:
        with pytest.raises(click.ClickException, match="another run writes to"):
            open_store(tmp_path, shard=Shard(0, 2))
        with open_store(tmp_path, shard=Shard(1, 2)) as second:
            first.append(row(0))
            second.append(row(1))
    assert rows_in(tmp_path, "jsonl") == [row(0), row(1)]
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [
        "results-0-of-2-00000.jsonl",
        "results-1-of-2-00000.jsonl",
    ]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_rows_can_be_dropped_to_be_made_again(form: FormatName, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_store(tmp_path, form) as store:
        for number in range(8):
            store.append(row(number))
        raise KeyboardInterrupt
    with open_store(
        tmp_path, form, drop=lambda row: row["file"] in ("0.mp4", "1.mp4", "2.mp4", "4.mp4", "6.mp4")
    ) as store:
        assert store.names == {"3.mp4", "5.mp4", "7.mp4"}
        store.append(row(4))
    assert [each["file"] for each in rows_in(tmp_path, form)] == ["3.mp4", "5.mp4", "7.mp4", "4.mp4"]


def test_a_folder_without_rows_has_no_parts(tmp_path: Path) -> None:
    with open_store(tmp_path / "new") as store:
        assert store.parts == []
    assert [path.name for path in (tmp_path / "new").iterdir()] == [".lock"]

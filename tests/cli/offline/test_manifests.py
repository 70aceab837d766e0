"""Manifests of every kind, and what is wrong with them."""

from pathlib import Path

import click
import pyarrow
import pytest
from pyarrow import parquet

from adafocus.cli.offline.inputs import collect
from adafocus.cli.offline.manifests import is_manifest, read_names
from adafocus.cli.video_urls import VideoUrl

NAMES = ["a.mp4", "sub folder/b.mp4", "ünï,code.mp4"]


def write(folder: Path, kind: str) -> Path:
    path = folder / f"list.{kind}"
    if kind == "csv":
        path.write_text('label,file\n1,a.mp4\n2,sub folder/b.mp4\n3,"ünï,code.mp4"\n', encoding="utf-8-sig")
    elif kind == "parquet":
        parquet.write_table(pyarrow.table({"file": NAMES, "label": [1, 2, 3]}), path)
    else:
        path.write_text('{"file": "a.mp4", "label": 1}\n\n"sub folder/b.mp4"\n{"file": "ünï,code.mp4"}', "utf-8")
    return path


@pytest.mark.parametrize("kind", ["csv", "jsonl", "ndjson", "parquet"])
def test_names_are_read_in_order_and_found_beside_the_manifest(kind: str, tmp_path: Path) -> None:
    path = write(tmp_path, kind)
    assert is_manifest(path)
    assert list(read_names(path, "file")) == NAMES
    found = collect([path], "file")
    assert [(video.name, video.path) for video in found.videos] == [(name, tmp_path / name) for name in NAMES]


def test_another_column_can_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("id,where\n1,/abs/a.mp4\n")
    (video,) = collect([tmp_path / "list.csv"], "where").videos
    assert video.path == Path("/abs/a.mp4")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.csv", b"id,where\n1,a.mp4\n", "has no column 'file'; it has id, where. Choose one with --column"),
        ("list.csv", b"", "has no column 'file'; it has none"),
        ("list.csv", b"id,file\n1,a.mp4\n2\n", "line 3 has no name in the column 'file'"),
        ("list.csv", b"id,file\n1, \n", "line 2 has no name"),
        ("list.csv", b"file\n\xff\xfe\n", "cannot be read: 'utf-8' codec"),
        ("list.jsonl", b'{"file": "a.mp4"}\n{"fil', "line 2 is not JSON"),
        ("list.jsonl", b'{"path": "a.mp4"}\n', "line 1 of .* has no column 'file'; it has path"),
        ("list.jsonl", b'{"file": 7}\n', "line 1 has no name"),
        ("list.parquet", b"PAR1", "is not a Parquet file"),
        ("list.csv", b"file\nftp://example.org/a.mp4\n", "ftp://example.org/a.mp4 is a URL of a kind that is not read"),
        ("list.csv", b"file\n", "no videos in .*list.csv"),
    ],
)
def test_a_manifest_that_is_wrong_is_one_sentence_that_says_where(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(click.ClickException, match=message):
        collect([tmp_path / name], "file")


def test_a_manifest_without_the_column_in_parquet(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"where": NAMES}), tmp_path / "list.parquet")
    with pytest.raises(click.ClickException, match="has no column 'file'; it has where"):
        collect([tmp_path / "list.parquet"], "file")


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match=r"list\.csv cannot be read: No such file"):
        collect([tmp_path / "list.csv"], "file")


def test_a_name_that_is_repeated_is_one_input(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("file\na.mp4\nb.mp4\na.mp4\n")
    found = collect([tmp_path / "list.csv"], "file")
    assert ([video.name for video in found.videos], found.repeated) == (["a.mp4", "b.mp4"], 1)


def test_a_name_that_stands_for_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "list.csv").write_text("file\na.mp4\n")
    with pytest.raises(click.ClickException, match=r"the name a\.mp4 stands for two files, .*one/a.*two/a"):
        collect([tmp_path / "one" / "list.csv", tmp_path / "two" / "list.csv"], "file")


def test_a_path_that_is_not_utf8_has_a_name_that_is(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    odd = folder / "\udcff.mp4"
    odd.touch()
    (video,) = collect([folder], "file").videos
    assert (video.name, video.path) == (f"{folder}/\\xff.mp4", odd)


def test_a_folder_with_the_ending_of_a_manifest_is_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "clips.csv"
    folder.mkdir()
    (folder / "a.mp4").touch()
    assert [video.path for video in collect([folder], "file").videos] == [folder / "a.mp4"]


def test_a_manifest_may_name_urls_and_secrets_in_them_are_not_shown(tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("file\nhttps://user:word@example.org/a.mp4?token=secret\nb.mp4\n")
    url, file = collect([manifest], "file").videos
    assert url.name == "https://example.org/a.mp4?token=…" and isinstance(url.path, VideoUrl)
    assert url.path.url == "https://user:word@example.org/a.mp4?token=secret"
    assert file.path == tmp_path / "b.mp4"

"""Listing the files below a folder: hidden entries, links, loops, and what cannot be read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from adafocus.video.folders import FolderListing, folders_in, leads_back, shown


def make(folder: Path, *files: str) -> Path:
    for name in files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def listed(folder: Path) -> list[str]:
    return [str(file.relative_to(folder)) for file in listing(folder).files]


def listing(folder: Path) -> FolderListing:
    made = FolderListing()
    made.add(folder, lambda file: file.suffix == ".mp4")
    return made


def told(made: FolderListing, folder: Path) -> list[str]:
    return [str(entry).replace(f"{folder}/", "") for entry in made.left_out]


def test_hidden_files_and_folders_are_left_out_at_any_depth(tmp_path: Path) -> None:
    make(
        tmp_path,
        "a.mp4",
        "deep/er/b.mp4",
        ".c.mp4",
        "._d.mp4",
        ".stversions/e.mp4",
        "deep/.ipynb_checkpoints/f.mp4",
        "deep/.git/er/g.mp4",
        "notes.txt",
    )
    assert listed(tmp_path) == ["a.mp4", "deep/er/b.mp4"]
    assert listing(tmp_path).left_out == []


def test_a_hidden_folder_that_is_named_is_listed(tmp_path: Path) -> None:
    make(tmp_path / ".cache", "a.mp4", "b/c.mp4")
    assert listed(tmp_path / ".cache") == ["a.mp4", "b/c.mp4"]


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    make(tmp_path / "far", "a.mp4", "deep/b.mp4", ".hidden/c.mp4")
    make(tmp_path / "near", "d.mp4")
    (tmp_path / "near/site").symlink_to(tmp_path / "far")
    (tmp_path / "near/e.mp4").symlink_to(tmp_path / "far/.hidden/c.mp4")
    assert listed(tmp_path / "near") == ["d.mp4", "e.mp4", "site/a.mp4", "site/deep/b.mp4"]


def test_a_folder_that_is_a_link_itself_is_listed(tmp_path: Path) -> None:
    make(tmp_path / "far", "a.mp4")
    (tmp_path / "near").symlink_to("far")
    assert listed(tmp_path / "near") == ["a.mp4"]


def test_a_folder_is_entered_once_and_by_its_own_path(tmp_path: Path) -> None:
    make(tmp_path / "data", "own/a.mp4", "z/b.mp4")
    (tmp_path / "data/alias").symlink_to("own")
    (tmp_path / "data/other").symlink_to("alias")
    made = listing(tmp_path / "data")
    assert [file.relative_to(tmp_path / "data").as_posix() for file in made.files] == ["own/a.mp4", "z/b.mp4"]
    assert told(made, tmp_path / "data") == ["alias is the same folder as own", "other is the same folder as own"]
    assert not any(entry.is_error for entry in made.left_out)


def test_a_file_is_listed_once_and_by_its_own_path(tmp_path: Path) -> None:
    make(tmp_path / "data", "b.mp4")
    make(tmp_path / "far", "c.mp4")
    (tmp_path / "data/a.mp4").symlink_to("b.mp4")
    (tmp_path / "data/x.mp4").symlink_to(tmp_path / "far/c.mp4")
    (tmp_path / "data/y.mp4").symlink_to(tmp_path / "far/c.mp4")
    made = listing(tmp_path / "data")
    assert [file.name for file in made.files] == ["b.mp4", "x.mp4"]
    assert told(made, tmp_path / "data") == ["a.mp4 is the same file as b.mp4", "y.mp4 is the same file as x.mp4"]


@pytest.mark.parametrize("target", [".", "..", "../..", "self"])
def test_a_link_that_leads_back_is_not_followed(tmp_path: Path, target: str) -> None:
    data = make(tmp_path / "data", "walk/a.mp4", "run/b.mp4")
    (data / "walk/self").symlink_to(target)
    made = listing(data / "walk")
    assert [file.name for file in made.files] == ["a.mp4"]
    (entry,) = made.left_out
    assert str(entry).startswith(str(data / "walk/self"))


def test_a_link_that_leads_back_by_way_of_another_is_not_followed(tmp_path: Path) -> None:
    data = make(tmp_path / "data", "walk/a.mp4", "run/b.mp4")
    make(tmp_path / "far", "c.mp4")
    (data / "walk/site").symlink_to(tmp_path / "far")
    (tmp_path / "far/up").symlink_to(data)
    made = listing(data / "walk")
    assert [file.name for file in made.files] == ["a.mp4", "c.mp4"]
    assert told(made, data / "walk") == ["site/up is a link to a folder that contains it"]
    assert leads_back(data / "walk/site/up")
    assert not leads_back(data / "walk/site")


def test_two_folders_that_link_to_each_other(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "b/2.mp4")
    (tmp_path / "a/to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b/to_a").symlink_to(tmp_path / "a")
    assert listed(tmp_path) == ["a/1.mp4", "b/2.mp4"]
    assert listed(tmp_path / "a") == ["1.mp4", "to_b/2.mp4"]


def test_a_link_to_nothing_is_named_if_it_looks_like_a_file_that_is_wanted(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").symlink_to("nowhere.mp4")
    (tmp_path / "notes.txt").symlink_to("nowhere.txt")
    made = listing(tmp_path)
    assert [file.name for file in made.files] == ["a.mp4"]
    assert [(entry.path.name, entry.is_error) for entry in made.left_out] == [("b.mp4", True)]
    assert "is a link whose target cannot be read" in str(made.left_out[0])


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.mp4", "locked/b.mp4")
    read = os.scandir

    def scandir(folder: Path) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied", str(folder))
        return read(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    made = listing(tmp_path)
    assert [file.name for file in made.files] == ["a.mp4"]
    assert [(str(entry), entry.is_error) for entry in made.left_out] == [
        (f"{tmp_path / 'locked'} cannot be read: Permission denied", True)
    ]


def test_a_folder_that_is_named_twice_is_listed_once_and_silently(tmp_path: Path) -> None:
    make(tmp_path, "a.mp4", "b/c.mp4")
    made = FolderListing()
    assert len(made.add(tmp_path)) == 2
    assert made.add(tmp_path) == []
    assert made.add(tmp_path / "b") == []
    assert (len(made.files), made.left_out) == (2, [])


def test_pipes_are_not_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert listed(tmp_path) == []


def test_names_of_any_bytes_are_listed_and_can_be_shown(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/r\xf8d"
    Path(os.fsdecode(raw)).mkdir()
    Path(os.fsdecode(raw + b"/\xff.mp4")).touch()
    (made,) = listing(tmp_path).files
    assert shown(made) == f"{tmp_path}/r\\xf8d/\\xff.mp4"
    shown(made).encode()


def test_the_folders_right_inside_a_folder(tmp_path: Path) -> None:
    make(tmp_path / "far", "x.mp4")
    data = make(tmp_path / "data", "walk/a.mp4", "run/b.mp4", ".git/c.mp4", "d.mp4")
    for name, target in {"far": "../far", "alias": "walk", "back": "..", "gone": "nowhere", "e.mp4": "d.mp4"}.items():
        (data / name).symlink_to(target)
    folders, left_out = folders_in(data)
    assert [folder.name for folder in folders] == ["far", "run", "walk"]
    assert {entry.path.name: (str(entry).split(" ", 1)[1], entry.is_error) for entry in left_out} == {
        "alias": (f"is the same folder as {data / 'walk'}", False),
        "back": ("is a link to a folder that contains it", False),
        "gone": ("is a link whose target cannot be read", True),
    }

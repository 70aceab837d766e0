"""Listing and parting labelled clips."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.training.data.clips import Clip, ClipSet, digest, fold_of, hold_out
from adafocus.training.data.manifests import default_split, list_clips
from adafocus.training.errors import DataError


def test_class_folders_with_spaces_and_other_alphabets(clip_folder: Path) -> None:
    found = list_clips(clip_folder)
    assert found.labels == ("blue sky", "rød")
    assert found.counts() == (5, 5)
    assert len({clip.identity for clip in found.clips}) == 10


def test_splits_as_folders(tmp_path: Path) -> None:
    for name in (
        "train/a/1.mp4",
        "train/b/2.mp4",
        "val/a/3.mp4",
        "val/b/4.mp4",
        "train/a/notes.txt",
        "train/a/.hidden",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    assert [clip.path.name for clip in list_clips(tmp_path, "train").clips] == ["1.mp4", "2.mp4"]
    assert default_split(tmp_path) == "train"
    (tmp_path / "val/c").mkdir()
    assert list_clips(tmp_path, "train").labels == ("a", "b", "c")
    assert [(clip.path.name, clip.label) for clip in list_clips(tmp_path).clips] == [
        ("1.mp4", 0),
        ("2.mp4", 1),
        ("3.mp4", 0),
        ("4.mp4", 1),
    ]
    with pytest.raises(DataError, match="'test'"):
        list_clips(tmp_path, "test")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("train", "plane"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.mp4").write_text(name)
    assert default_split(tmp_path) is None
    assert list_clips(tmp_path).labels == ("plane", "train")


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_hidden_folders_are_left_out_at_any_depth(tmp_path: Path) -> None:
    data = put(tmp_path, "walk/a.mp4", "run/b.mp4", "walk/.stversions/old.mp4", "walk/x/.ipynb_checkpoints/a.mp4")
    put(data, ".git/c.mp4", "run/.DS_Store", "run/._b.mp4")
    found = list_clips(data)
    assert (found.labels, found.counts(), found.left_out) == (("run", "walk"), (1, 1), ())


def test_linked_folders_are_followed_for_each_class(tmp_path: Path) -> None:
    far = put(tmp_path / "far", "a.mp4")
    data = put(tmp_path / "data", "walk/b.mp4")
    (data / "walk/site2").symlink_to(far)
    (data / "run").symlink_to(far)
    found = list_clips(data)
    assert (found.labels, found.counts(), found.left_out) == (("run", "walk"), (1, 2), ())


def test_links_that_would_count_a_clip_twice_are_left_out_and_named(tmp_path: Path) -> None:
    data = put(tmp_path / "data", "walk/a.mp4", "walk/deep/c.mp4", "run/b.mp4")
    (data / "walk/again").symlink_to("deep")
    (data / "walk/a-link.mp4").symlink_to("a.mp4")
    (data / "walk/up").symlink_to("..")
    (data / "walking").symlink_to("walk")
    (data / "all").symlink_to(".")
    found = list_clips(data)
    assert (found.labels, found.counts()) == (("run", "walk"), (1, 2))
    assert [line.removeprefix(f"{data}/").split(" ")[0] for line in found.left_out] == [
        "all",
        "walking",
        "walk/up",
        "walk/again",
        "walk/a-link.mp4",
    ]


def test_links_to_nothing_are_named(tmp_path: Path) -> None:
    data = put(tmp_path, "walk/a.mp4", "run/b.mp4")
    (data / "walk/c.mp4").symlink_to("nowhere.mp4")
    (data / "jump").symlink_to("nowhere")
    found = list_clips(data)
    assert (found.labels, found.counts(), len(found.left_out)) == (("run", "walk"), (1, 1), 2)


def test_splits_may_be_links_and_share_clips_only_once(tmp_path: Path) -> None:
    far = put(tmp_path / "far", "a/1.mp4", "b/2.mp4")
    data = put(tmp_path / "data", "val/a/3.mp4", "val/b/4.mp4")
    (data / "train").symlink_to(far)
    (data / "val/a/also.mp4").symlink_to(far / "a/1.mp4")
    assert default_split(data) == "train"
    assert [clip.path.name for clip in list_clips(data, "train").clips] == ["1.mp4", "2.mp4"]
    assert [clip.path.name for clip in list_clips(data, "val").clips] == ["3.mp4", "also.mp4", "4.mp4"]
    assert sorted(clip.path.name for clip in list_clips(data).clips) == ["1.mp4", "2.mp4", "3.mp4", "4.mp4"]


def test_a_clip_may_have_a_name_of_any_bytes_and_a_class_may_not(tmp_path: Path) -> None:
    data = put(tmp_path, "walk/a.mp4", "run/b.mp4")
    Path(os.fsdecode(os.fsencode(data / "run") + b"/\xff.mp4")).write_text("c")
    assert list_clips(data).counts() == (2, 1)
    assert len(digest(Path(os.fsdecode(b"/nowhere/\xff.mp4")))) == 64
    Path(os.fsdecode(os.fsencode(data) + b"/r\xf8d")).mkdir()
    with pytest.raises(DataError, match=r"r\\xf8d is not UTF-8; rename it"):
        list_clips(data)


def manifest(folder: Path, items: object) -> Path:
    (folder / "manifest.json").write_text(json.dumps({"name": "set", "licence": "MIT", "items": items}))
    return folder


def test_manifest_with_splits(tmp_path: Path) -> None:
    rows = [("b/1.mp4", "b", "train"), ("a/2.mp4", "a", "train"), ("a/3.mp4", "a", "val")]
    folder = manifest(tmp_path, [{"file": f, "label": la, "split": s, "sha256": f} for f, la, s in rows])
    found = list_clips(folder, "train")
    assert found.labels == ("a", "b")
    assert [(clip.path.name, clip.label, clip.identity) for clip in found.clips] == [
        ("2.mp4", 0, "a/2.mp4"),
        ("1.mp4", 1, "b/1.mp4"),
    ]
    assert found.source == {"name": "set", "licence": "MIT"}
    assert len(list_clips(folder).clips) == 3
    with pytest.raises(DataError, match=r"no split 'test'; it has train, val"):
        list_clips(folder, "test")


@pytest.mark.parametrize("items", [None, [1], [{"file": "a"}]])
def test_a_bad_manifest_is_named(tmp_path: Path, items: object) -> None:
    with pytest.raises(DataError, match=r"manifest\.json is not a manifest"):
        list_clips(manifest(tmp_path, items))


def test_too_few_classes_and_no_folder(tmp_path: Path) -> None:
    (tmp_path / "only").mkdir()
    with pytest.raises(DataError, match="at least two"):
        list_clips(tmp_path)
    with pytest.raises(DataError, match="not a folder"):
        list_clips(tmp_path / "absent")


def test_a_csv_manifest_with_several_labels_and_odd_names(tmp_path: Path) -> None:
    rows = 'file,labels,split\n"mine, too/klipp é 1.mp4",rød;blue sky,train\nb.mp4,rød,val\n'
    (tmp_path / "manifest.csv").write_text(rows, encoding="utf-8-sig")
    found = list_clips(tmp_path)
    assert found.labels == ("blue sky", "rød")
    assert found.multi_label
    assert [(str(clip.path.relative_to(tmp_path)), clip.all_labels) for clip in found.clips] == [
        ("b.mp4", (1,)),
        ("mine, too/klipp é 1.mp4", (1, 0)),
    ]
    assert default_split(tmp_path) == "train"
    assert [clip.path.name for clip in list_clips(tmp_path / "manifest.csv", "val").clips] == ["b.mp4"]


def test_a_json_manifest_with_several_labels(tmp_path: Path) -> None:
    found = list_clips(manifest(tmp_path, [{"file": "1", "labels": ["b", "a"]}, {"file": "2", "label": "b"}]))
    assert found.multi_label
    assert [clip.all_labels for clip in found.clips] == [(1, 0), (1,)]
    assert default_split(tmp_path) is None


clips = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 30)), min_size=1, max_size=60)


@given(clips, st.integers(2, 6), st.integers(0, 3))
def test_parts_keep_identical_clips_together_and_classes_even(
    rows: list[tuple[int, int]], parts: int, seed: int
) -> None:
    made = [Clip(Path(str(index)), label, f"{label}-{number}") for index, (label, number) in enumerate(rows)]
    which = fold_of(made, parts, seed)
    assert len({(clip.identity, part) for clip, part in zip(made, which, strict=True)}) == len(
        {clip.identity for clip in made}
    )
    assert fold_of(made[::-1], parts, seed) == which[::-1]
    for label in range(4):
        distinct = {clip.identity: part for clip, part in zip(made, which, strict=True) if clip.label == label}
        sizes = [list(distinct.values()).count(part) for part in range(parts)]
        assert max(sizes) - min(sizes) <= 1


def test_holding_aside_parts_the_set() -> None:
    made = tuple(Clip(Path(str(n)), n % 2, str(n)) for n in range(20))
    learn, aside = hold_out(ClipSet(("a", "b"), made, {}), parts=5, fold=2)
    assert len(aside.clips) == 4
    assert {*learn.clips, *aside.clips} == set(made)
    one = (*made, Clip(Path("c"), 2, "alone"))
    for fold in range(5):
        assert one[-1] in hold_out(ClipSet(("a", "b", "c"), one, {}), parts=5, fold=fold)[0].clips
    with pytest.raises(DataError, match="at least 2"):
        fold_of(made, 1)


def test_a_folder_of_frames_is_known_wherever_it_lies_and_by_what_it_holds(tmp_path: Path) -> None:
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        for number in range(3):
            (tmp_path / place / f"{number}.png").write_bytes(b"pixels" * number)
    relative = Path(os.path.relpath(tmp_path / "a"))
    assert digest(tmp_path / "a") == digest(tmp_path / "b") == digest(relative)
    before = digest(tmp_path / "a")
    (tmp_path / "a" / "2.png").write_bytes(b"others" * 2)
    assert digest(tmp_path / "a") != before

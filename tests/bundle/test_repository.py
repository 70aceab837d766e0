"""A folder of bundles: what is found in it, and when a bundle counts as changed."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.bundle.repository import MAX_BUNDLES, ChangeDetector, Fingerprint, find_bundles, fingerprint
from adafocus.bundle.store import MANIFEST, BundleError, write_bundle
from tests.bundle.factory import CONTENT, make_manifest


def put(folder: Path, version: str = "1.0") -> Path:
    write_bundle(folder, make_manifest(version=version), CONTENT)
    return folder


def test_bundles_are_found_by_the_names_of_their_folders_and_in_order(tmp_path: Path) -> None:
    for name in ("sky", "birds"):
        put(tmp_path / name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "README.md").touch()
    (tmp_path / ".sky.1234.tmp").mkdir()
    (tmp_path / ".sky.1234.tmp" / MANIFEST).touch()
    assert find_bundles(tmp_path) == {"birds": tmp_path / "birds", "sky": tmp_path / "sky"}


def test_a_folder_without_bundles_with_too_many_or_that_is_none_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"missing: cannot be read \(no such file"):
        find_bundles(tmp_path / "missing")
    with pytest.raises(BundleError, match="holds no bundle"):
        find_bundles(tmp_path)
    for number in range(MAX_BUNDLES + 1):
        (tmp_path / f"m{number}").mkdir()
        (tmp_path / f"m{number}" / MANIFEST).touch()
    with pytest.raises(BundleError, match=f"holds {MAX_BUNDLES + 1} bundles; at most {MAX_BUNDLES}"):
        find_bundles(tmp_path)


def test_a_bundle_that_is_replaced_looks_different_even_with_the_same_content(tmp_path: Path) -> None:
    bundle = put(tmp_path / "sky")
    first = fingerprint(bundle)
    assert first == fingerprint(bundle)
    put(bundle)
    assert fingerprint(bundle) != first
    os.utime(bundle / MANIFEST, ns=(1, 1))
    assert fingerprint(tmp_path / "missing") == ()


def looks(number: int) -> Fingerprint:
    return ((MANIFEST, number, 0, 0),) if number else ()


def test_a_bundle_is_read_once_it_looks_the_same_twice() -> None:
    detector = ChangeDetector({"sky": looks(1)})
    seen = [1, 1, 2, 3, 3, 3, 0, 0, 3]
    assert [detector.changed({"sky": looks(number)}) for number in seen] == [
        *([], [], [], [], ["sky"]),
        *([], [], [], []),
    ]


def test_a_new_bundle_is_read_too() -> None:
    detector = ChangeDetector({})
    assert detector.changed({"new": looks(1)}) == []
    assert detector.changed({"new": looks(1)}) == ["new"]


@given(st.lists(st.integers(0, 3), max_size=30))
def test_whatever_happens_the_last_version_is_read_once_it_stays(numbers: list[int]) -> None:
    detector, read = ChangeDetector({"sky": looks(1)}), [1]
    read += [number for number in [*numbers, 2, 2, 2] if detector.changed({"sky": looks(number)})]
    assert read[-1] == 2
    assert all(first != second for first, second in pairwise(read)), "nothing is read twice"
    assert 0 not in read

"""Shards divide the names: each belongs to exactly one, whatever the others are."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.cli.offline.shards import Shard

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(name=NAMES, count=st.integers(1, 50))
def test_each_name_belongs_to_exactly_one_shard(name: str, count: int) -> None:
    assert sum(Shard(index, count).has(name) for index in range(count)) == 1


def test_the_hash_is_the_one_that_is_documented() -> None:
    index = int(hashlib.sha256(b"clips/a.mp4").hexdigest()[:16], 16) % 7
    assert Shard(index, 7).has("clips/a.mp4")


def test_shards_are_about_equal() -> None:
    sizes = [sum(Shard(index, 8).has(f"clip-{number}.mp4") for number in range(8000)) for index in range(8)]
    assert min(sizes) > 900
    assert max(sizes) < 1100


def test_the_form_is_i_of_n_from_0() -> None:
    assert Shard.parse("0/1") == Shard()
    assert Shard.parse("7/8") == Shard(7, 8)
    assert Shard(7, 8).suffix == "-7-of-8"
    assert Shard().suffix == ""


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/2", "8/8", "9/8", "0/0", "-1/4", "1/2/3", "a/b", "0/1000000", " 0/1"]
)
def test_anything_else_is_refused_by_its_value(text: str) -> None:
    with pytest.raises(ValueError, match="must be") as refused:
        Shard.parse(text)
    assert repr(text) in str(refused.value)

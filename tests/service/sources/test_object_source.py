"""Objects of a bucket, read in ranges."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from adafocus.service.errors import SourceUnavailable, UrlNotAllowed
from adafocus.service.sources.object_source import ObjectSource, keys_under
from tests.bucket import Bucket, a_bucket

DATA = random.Random(0).randbytes(300_000)


@pytest.fixture(scope="module")
def store() -> Iterator[Bucket]:
    pytest.importorskip("obstore")
    with a_bucket() as bucket:
        yield bucket


@pytest.fixture
def bucket(store: Bucket, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    store.use(monkeypatch)
    return store


async def read(source: ObjectSource, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([chunk async for chunk in source.read(start, stop)])


async def test_parts_are_read_in_any_order(bucket: Bucket) -> None:
    source = ObjectSource(bucket.put("parts/clip one.mp4", DATA))
    await source.open()
    assert (source.size, source.ranged) == (len(DATA), True)
    assert await read(source, 200_000, 200_010) == DATA[200_000:200_010]
    assert await read(source, 5, 9) == DATA[5:9]
    assert await read(source) == DATA
    assert await read(source, 9, 9) == b""
    await source.close()


async def test_an_object_that_changes_is_an_error_and_not_a_mixture(bucket: Bucket) -> None:
    source = ObjectSource(bucket.put("changes.mp4", DATA))
    await source.open()
    assert await read(source, 0, 10) == DATA[:10]
    bucket.put("changes.mp4", DATA[::-1])
    with pytest.raises(SourceUnavailable, match="changed"):
        await read(source, 200_000, 200_010)


async def test_what_is_not_there_is_said_without_secrets(bucket: Bucket) -> None:
    for url in ("s3://videos/none.mp4", "s3://no-such-bucket/clip.mp4"):
        with pytest.raises(SourceUnavailable) as caught:
            await ObjectSource(url).open()
        assert "s3cr3t" not in caught.value.detail
        assert len(caught.value.detail) < 100


def test_a_folder_is_listed(bucket: Bucket) -> None:
    urls = [bucket.put(f"folder/{name}", b"x") for name in ("a.mp4", "more/b.mkv", "c.txt")]
    bucket.put("folder-of-others/d.mp4", b"x")
    assert sorted(keys_under("s3://videos/folder/")) == sorted(urls)


@pytest.mark.parametrize(
    "url", ["s3://", "s3:///key", "s3://videos", "s3://videos/", "gs://videos", "ftp://videos/key"]
)
def test_a_url_must_name_an_object(url: str) -> None:
    pytest.importorskip("obstore")
    with pytest.raises(UrlNotAllowed):
        ObjectSource(url)

"""`adafocus classify` with URLs and buckets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adafocus.cli.main import main
from adafocus.cli.video_urls import VideoUrl, is_video_url
from tests.bucket import Bucket, a_bucket
from tests.e2e.tiny import write_clip, write_tiny_bundle
from tests.service.sources.servers import Server, files, serving_http


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny").path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("clips") / "bright.mp4", "bright").read_bytes()


@pytest.fixture(scope="module")
def server(clip: bytes) -> Iterator[Server]:
    """A file server in a thread, because the command runs an event loop of its own."""
    started, found = threading.Event(), []
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with serving_http(files({"/clip.mp4": clip})) as running:
            found.append(running)
            started.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    started.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="module")
def store() -> Iterator[Bucket]:
    pytest.importorskip("obstore")
    with a_bucket() as bucket:
        yield bucket


@pytest.fixture(autouse=True)
def one_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAFOCUS_DECODE_WORKERS", "1")
    monkeypatch.setenv("ADAFOCUS_URL_PRIVATE", "true")


def classify(bundle: Path, *arguments: object) -> int:
    return main(["classify", "--bundle", str(bundle), *(str(argument) for argument in arguments)])


def test_a_url_is_classified_like_a_file(
    bundle: Path, server: Server, clip: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(bundle, server.url("/clip.mp4?signature=s3cr3t").replace("//", "//user:s3cr3t@"), "--json") == 0
    captured = capsys.readouterr()
    row = json.loads(captured.out)
    assert row["predictions"][0]["label"] == "bright"
    assert row["video"]["bytes"] == len(clip)
    assert 0 < row["compute"]["bytes_fetched"] <= len(clip)
    assert row["file"] == server.url("/clip.mp4?signature=…")
    assert "s3cr3t" not in captured.out + captured.err


def test_a_url_that_cannot_be_read_is_one_error_row(
    bundle: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classify(bundle, server.url("/none.mp4"), server.url("/clip.mp4")) == 1
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{server.url('/clip.mp4')}: bright ")
    assert (
        captured.err
        == f"adafocus: {server.url('/none.mp4')}: the server answered with status 404 (source_unavailable)\n"
    )


def test_private_addresses_are_refused_by_default(
    bundle: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ADAFOCUS_URL_PRIVATE", "false")
    asked = len(server.requests)
    assert classify(bundle, server.url()) == 1
    assert "url_not_allowed" in capsys.readouterr().err
    assert len(server.requests) == asked


def test_a_bucket_is_classified_overnight_and_resumed(
    bundle: Path,
    store: Bucket,
    clip: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    store.use(monkeypatch)
    urls = [store.put(f"day/{name}", clip) for name in ("b.mp4", "a.mp4", "more/c.mp4")]
    store.put("day/notes.txt", b"not a video")
    store.put("day/broken.mp4", b"not a video either")
    out = tmp_path / "answers.jsonl"
    assert classify(bundle, "s3://videos/day/", "--out", out) == 1
    rows = {row["file"]: row for row in map(json.loads, out.read_text().splitlines())}
    assert set(rows) == {*urls, "s3://videos/day/broken.mp4"}
    assert {rows[url]["predictions"][0]["label"] for url in urls} == {"bright"}
    assert rows["s3://videos/day/broken.mp4"]["error"]["code"] == "unsupported_media"
    late = store.put("day/d.mp4", clip)
    capsys.readouterr()
    assert classify(bundle, "s3://videos/day/", "--out", out) == 1
    assert "skipped 4 of 5" in capsys.readouterr().err
    assert json.loads(out.read_text().splitlines()[-1])["file"] == late


def test_an_empty_folder_of_a_bucket_is_said(
    bundle: Path, store: Bucket, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.use(monkeypatch)
    assert classify(bundle, "s3://videos/nothing/") == 1
    assert "no videos under s3://videos/nothing/" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@host/a.mp4", "https://host/a.mp4"),
        (
            "https://host/a.mp4?id=5&X-Amz-Signature=abc&X-Amz-Credential=me",
            "https://host/a.mp4?id=5&X-Amz-Signature=…&X-Amz-Credential=…",
        ),
        ("https://host/a.mp4?Expires=1&sig=abc#fragment", "https://host/a.mp4?Expires=1&sig=…"),
        ("s3://bucket/folder/a%20b.mp4", "s3://bucket/folder/a%20b.mp4"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, shown: str) -> None:
    assert str(VideoUrl(url)) == shown
    assert "pw" not in repr(VideoUrl(url))


def test_which_texts_are_urls(capsys: pytest.CaptureFixture[str], bundle: Path) -> None:
    assert is_video_url("HTTPS://host/a.mp4")
    assert is_video_url("gs://bucket/")
    assert not is_video_url("clip.mp4")
    assert classify(bundle, "rtsp://user:s3cr3t@host/stream") == 2
    said = capsys.readouterr().err
    assert "a URL must begin with http://" in said
    assert "s3cr3t" not in said

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.service.decode.multipart import MAX_PART_HEADER_BYTES, MAX_PART_HEADERS, MAX_PARTS
from adafocus.service.decode.spool import MEMORY_BYTES
from adafocus.service.decode.upload import Spool, open_spool, receive
from adafocus.service.errors import EmptyBody, Internal, NoVideoPart, Overloaded, Problem, TooLarge, Unavailable

BOUNDARY = "the-boundary"
FORM = f'multipart/form-data; boundary="{BOUNDARY}"'
BIG = 1 << 20

Part = tuple[str, bytes]


async def arriving(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def form(*parts: Part, close: bool = True) -> bytes:
    body = b""
    for name, content in parts:
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="a.mp4"\r\n'.encode()
        body += b"Content-Type: video/mp4\r\n\r\n" + content + b"\r\n"
    return body + (f"--{BOUNDARY}--\r\n".encode() if close else b"")


def cut(body: bytes, places: Sequence[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(body) + 1) for place in places), len(body)]
    return [body[start:end] for start, end in pairwise(edges)]


def content(spool: Spool) -> bytes:
    return os.pread(spool.fd, spool.size + 1, 0)


async def received(
    chunks: Iterable[bytes], content_type: str | None = "video/mp4", max_bytes: int = BIG
) -> tuple[bytes, bool]:
    with Spool() as spool:
        await receive(arriving(chunks), content_type=content_type, max_bytes=max_bytes, spool=spool)
        return content(spool), spool.complete


async def problem_of(
    chunks: Iterable[bytes], content_type: str | None = "video/mp4", max_bytes: int = BIG
) -> tuple[Problem, Spool]:
    with Spool() as spool:
        with pytest.raises(Problem) as caught:
            await receive(arriving(chunks), content_type=content_type, max_bytes=max_bytes, spool=spool)
        assert spool.error is caught.value
        return caught.value, spool


class TestRaw:
    @pytest.mark.parametrize("content_type", ["video/mp4", "application/x-www-form-urlencoded", None, "text/plain"])
    async def test_bytes_are_kept_as_they_are(self, content_type: str | None) -> None:
        assert await received([b"ab", b"", b"cd"], content_type) == (b"abcd", True)

    @pytest.mark.parametrize("chunks", [[], [b""], [b"", b""]])
    async def test_no_bytes_are_refused(self, chunks: list[bytes]) -> None:
        assert isinstance((await problem_of(chunks))[0], EmptyBody)

    async def test_the_limit_itself_is_allowed(self) -> None:
        assert await received([b"abc", b"de"], max_bytes=5) == (b"abcde", True)

    async def test_nothing_is_read_beyond_the_limit(self) -> None:
        read = []

        def chunks() -> Iterable[bytes]:
            for chunk in (b"abc", b"def", b"ghi"):
                read.append(chunk)
                yield chunk

        problem, spool = await problem_of(chunks(), max_bytes=5)
        assert isinstance(problem, TooLarge)
        assert "5 bytes" in problem.detail
        assert read == [b"abc", b"def"]
        assert spool.size == 3

    @pytest.mark.parametrize(
        ("number", "problem"), [(errno.ENOSPC, Overloaded), (errno.EDQUOT, Overloaded), (errno.EIO, Unavailable)]
    )
    async def test_a_full_disk_is_a_matter_of_time_and_a_broken_one_the_machines_failure(
        self, number: int, problem: type[Problem]
    ) -> None:
        class Failing(Spool):
            def write(self, chunk: bytes | memoryview) -> None:
                raise OSError(number, "/dev/sda1 says no")

        with Failing() as spool, pytest.raises(problem) as caught:
            await receive(arriving([b"ab"]), content_type=None, max_bytes=BIG, spool=spool)
        assert "sda1" not in caught.value.detail
        assert spool.error is caught.value


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a real, small file system; skipped where that is not permitted."""
    folder = tmp_path / "small"
    folder.mkdir()

    def mount(options: str) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("needs the right to mount a file system")
        return folder

    yield mount
    subprocess.run(["umount", folder], capture_output=True, check=False)


class TestSmallDisk:
    async def test_an_upload_that_does_not_fit_is_told_to_come_again_and_the_next_one_fits(
        self, small_disk: Callable[[str], Path]
    ) -> None:
        folder = small_disk("size=64k")
        with Spool(folder) as spool, pytest.raises(Overloaded):
            await receive(arriving([b"x" * 40_000] * 3), content_type=None, max_bytes=BIG, spool=spool)
        assert isinstance(spool.error, Overloaded)
        with Spool(folder) as spool:
            await receive(arriving([b"x" * 40_000]), content_type=None, max_bytes=BIG, spool=spool)
            assert spool.complete

    def test_a_disk_without_room_for_another_file_is_a_matter_of_time_too(
        self, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(small_disk("size=64k,nr_inodes=2")))
        with open_spool(), pytest.raises(Overloaded):
            open_spool()

    def test_a_disk_that_is_not_there_is_the_machines_failure(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
        with pytest.raises(Unavailable):
            open_spool()


class TestForm:
    @given(
        video=st.binary(min_size=1, max_size=300)
        | st.sampled_from([b"\r\n--the-boundar", b"--the-boundary", b"\r\n", b"\r\n--the-boundary-", b"-" * 40]).filter(
            lambda content: b"\r\n--the-boundary" not in b"\r\n" + content
        ),
        before=st.lists(st.tuples(st.sampled_from(["note", "videos", "File"]), st.binary(max_size=40)), max_size=3),
        after=st.lists(st.tuples(st.sampled_from(["video", "file", "x"]), st.binary(max_size=40)), max_size=3),
        name=st.sampled_from(["video", "file"]),
        places=st.lists(st.integers(0, 5000), max_size=12),
    )
    @settings(deadline=None)
    async def test_any_chunking_gives_the_same_bytes(
        self, video: bytes, before: list[Part], after: list[Part], name: str, places: list[int]
    ) -> None:
        body = form(*before, (name, video), *after)
        if BOUNDARY.encode() in b"".join(content for _, content in (*before, *after, (name, video))):
            return
        assert await received(cut(body, places), FORM) == (video, True)

    @given(body=st.binary(max_size=400), places=st.lists(st.integers(0, 5000), max_size=6))
    @settings(deadline=None)
    async def test_any_bytes_end_in_an_answer_of_ours(self, body: bytes, places: list[int]) -> None:
        problem, _ = await problem_of(cut(body, places), FORM)
        assert isinstance(problem, NoVideoPart | EmptyBody)

    @given(place=st.integers(0, 400), damage=st.binary(min_size=1, max_size=5), places=st.lists(st.integers(0, 400)))
    @settings(deadline=None)
    async def test_a_damaged_form_is_refused_or_read_alike_in_any_chunking(
        self, place: int, damage: bytes, places: list[int]
    ) -> None:
        body = form(("note", b"n"), ("video", b"0123456789" * 10))
        place %= len(body)
        body = body[:place] + damage + body[place + len(damage) :]
        results = []
        for chunks in ([body], cut(body, places), [body[i : i + 1] for i in range(len(body))]):
            try:
                results.append(repr(await received(chunks, FORM)))
            except Problem as problem:
                results.append(problem.code)
        assert len(set(results)) == 1

    async def test_a_long_video_is_kept_whole(self) -> None:
        video = os.urandom(300_000)
        body = form(("video", video))
        chunks = [body[i : i + 65536] for i in range(0, len(body), 65536)]
        assert await received(chunks, FORM) == (video, True)

    async def test_the_first_video_part_counts(self) -> None:
        assert (await received([form(("file", b"first"), ("video", b"second"))], FORM))[0] == b"first"

    async def test_other_parts_count_towards_the_limit(self) -> None:
        body = form(("note", b"n" * 1000), ("video", b"v"))
        problem, _ = await problem_of([body[:600], body[600:]], FORM, max_bytes=700)
        assert isinstance(problem, TooLarge)

    @pytest.mark.parametrize(
        ("body", "content_type", "kind"),
        [
            (form(("note", b"n")), FORM, NoVideoPart),
            (form(("video", b"abc"), close=False), FORM, NoVideoPart),
            (form(("video", b"")), FORM, EmptyBody),
            (b"not a form at all", FORM, NoVideoPart),
            (form(("video", b"abc")), "multipart/form-data", NoVideoPart),
            (form(("video", b"abc")), "multipart/form-data; boundary=" + "b" * 400, NoVideoPart),
            (form(("video", b"abc")), f"multipart/mixed; boundary={BOUNDARY}", NoVideoPart),
            (form(*[("note", b"")] * (MAX_PARTS + 1)), FORM, NoVideoPart),
            (b"", FORM, EmptyBody),
        ],
    )
    async def test_what_holds_no_video_is_refused(self, body: bytes, content_type: str, kind: type[Problem]) -> None:
        problem, _ = await problem_of([body], content_type)
        assert type(problem) is kind

    @pytest.mark.parametrize(
        "headers",
        [
            b"X-Long: " + b"x" * MAX_PART_HEADER_BYTES,
            b"X" * MAX_PART_HEADER_BYTES + b": long",
            b"\r\n".join(b"X-%d: y" % i for i in range(MAX_PART_HEADERS + 1)),
        ],
        ids=["value", "name", "many"],
    )
    async def test_headers_of_a_part_are_held_in_memory_and_so_bounded(self, headers: bytes) -> None:
        body = form(("video", b"abc")).replace(b"Content-Type: video/mp4", headers)
        problem, _ = await problem_of(cut(body, range(0, len(body), 1000)), FORM)
        assert type(problem) is NoVideoPart

    async def test_the_word_multipart_may_be_written_large(self) -> None:
        assert (await received([form(("video", b"abc"))], FORM.replace("multipart", " Multipart")))[0] == b"abc"


class TestSpool:
    def test_it_leaves_nothing_in_its_directory(self, tmp_path: Path) -> None:
        with Spool(tmp_path) as spool:
            spool.write(b"abc")
            assert not list(tmp_path.iterdir())
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("error", [IsADirectoryError(), OSError(errno.EOPNOTSUPP, "no such files here")])
    def test_where_a_file_must_have_a_name_it_loses_it_at_once(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
    ) -> None:
        refused = []

        def open_(path: str, flags: int, *rest: int, **more: int) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                refused.append(path)
                raise error
            return really_open(path, flags, *rest, **more)

        really_open = os.open
        monkeypatch.setattr(os, "open", open_)
        with Spool(tmp_path) as spool:
            spool.write(b"abc")
            assert list(tmp_path.iterdir()) == []
        assert refused

    def test_closing_twice_is_closing_once(self) -> None:
        spool = Spool()
        spool.close()
        spool.close()
        with pytest.raises(ValueError):
            _ = spool.fd

    def test_a_complete_spool_takes_no_more(self) -> None:
        with Spool() as spool:
            spool.finish()
            spool.finish()
            with pytest.raises(ValueError):
                spool.write(b"abc")

    def test_listeners_hear_every_change_until_they_leave(self) -> None:
        heard: list[tuple[int, bool]] = []
        with Spool() as spool:
            leave = spool.subscribe(lambda: heard.append((spool.size, spool.complete)))
            spool.write(b"abc")
            spool.finish()
            leave()
            leave()
            spool.fail(Internal())
        assert heard == [(3, False), (3, True)]

    def test_a_reading_descriptor_cannot_write(self) -> None:
        with Spool() as spool:
            spool.write(b"abc")
            fd = spool.open_for_reading()
            try:
                assert os.pread(fd, 10, 0) == b"abc"
                with pytest.raises(OSError):
                    os.pwrite(fd, b"x", 0)
            finally:
                os.close(fd)


class TestMemory:
    def test_a_small_upload_is_kept_in_memory_and_sealed_when_it_is_complete(self) -> None:
        with Spool(at_most_bytes=5) as spool:
            spool.write(b"ab")
            growing = spool.open_for_reading()
            spool.write(b"cde")
            spool.finish()
            spool.finish()
            sealed = spool.open_for_reading()
            for fd in (growing, sealed):
                assert os.pread(fd, 10, 0) == b"abcde"
                with pytest.raises(OSError):
                    os.pwrite(fd, b"x", 0)
                os.close(fd)
        with pytest.raises(ValueError, match="closed"):
            _ = spool.fd

    def test_no_more_is_written_than_was_announced(self) -> None:
        with Spool(at_most_bytes=2) as spool, pytest.raises(ValueError, match="more bytes"):
            spool.write(b"abc")

    def test_a_large_upload_lies_in_a_file(self) -> None:
        with Spool(at_most_bytes=MEMORY_BYTES + 1) as large, Spool(at_most_bytes=MEMORY_BYTES) as small:
            assert "memfd" in str(Path(f"/proc/self/fd/{small.fd}").readlink())
            assert "memfd" not in str(Path(f"/proc/self/fd/{large.fd}").readlink())

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adafocus.service.decode.spool import Spool
from adafocus.service.decode.worker.control import ClosedError
from adafocus.service.decode.worker.spool_reader import SpoolReader
from tests.service.decode.factory import Uploading


@pytest.fixture
def spool() -> Iterator[Spool]:
    with Spool() as spool:
        yield spool


Action = tuple[str, int]
ACTIONS = st.lists(
    st.tuples(st.just("read"), st.integers(-1, 50))
    | st.tuples(st.sampled_from(["set", "current", "end"]), st.integers(-40, 120)),
    max_size=20,
)


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=6),
    actions=ACTIONS,
    announced=st.booleans(),
    arrived=st.booleans(),
)
@settings(deadline=None)
def test_it_reads_as_the_complete_file_would(
    chunks: list[bytes], actions: list[Action], announced: bool, arrived: bool
) -> None:
    content = b"".join(chunks)
    model = io.BytesIO(content)
    with Spool() as spool:
        upload = Uploading(spool, list(chunks), expected=len(content) if announced else None)
        if arrived:
            upload.wait_for(None)
        reader = SpoolReader(spool.fd, upload)
        for action, number in actions:
            if action == "read":
                # A file may give less than asked for only at its end; a reader of an upload, wherever it ends by now.
                data = reader.read(number)
                assert data == model.read(len(data))
                assert data or number == 0 or not model.read(1)
                if number < 0:
                    assert model.tell() >= len(content)
            else:
                whence = {"set": os.SEEK_SET, "current": os.SEEK_CUR, "end": os.SEEK_END}[action]
                base = {"set": 0, "current": model.tell(), "end": len(content)}[action]
                if base + number < 0:
                    with pytest.raises(ValueError):
                        reader.seek(number, whence)
                else:
                    assert reader.seek(number, whence) == model.seek(base + number)
            assert reader.tell() == model.tell()


def test_the_end_is_not_waited_for_where_it_is_known(spool: Spool) -> None:
    upload = Uploading(spool, [b"abc", b"def"], expected=6)
    assert SpoolReader(spool.fd, upload).seek(0, os.SEEK_END) == 6
    assert not upload.needs


def test_neither_is_it_where_a_read_meets_it(spool: Spool) -> None:
    upload = Uploading(spool, [b"abc", b"def"], expected=6)
    reader = SpoolReader(spool.fd, upload)
    reader.seek(6)
    assert reader.read(100) == b""
    assert not upload.needs


def test_a_large_read_does_not_wait_for_all_that_it_asks_for(spool: Spool) -> None:
    upload = Uploading(spool, [bytes(10_000)] * 4)
    assert len(SpoolReader(spool.fd, upload).read(32_768)) == 10_000
    assert not upload.complete


def test_what_has_arrived_is_not_waited_for(spool: Spool) -> None:
    upload = Uploading(spool, [b"abc", b"def"])
    reader = SpoolReader(spool.fd, upload)
    assert reader.read(2) == b"ab"
    assert upload.needs == [2]
    assert reader.read(100) == b"c"
    assert upload.needs == [2]
    assert reader.read(100) == b"def"
    assert reader.read(100) == b""


def test_a_closed_request_ends_the_next_read(spool: Spool) -> None:
    upload = Uploading(spool, [b"abc"], closing=True)
    with pytest.raises(ClosedError):
        SpoolReader(spool.fd, upload).read(1)


def test_it_can_be_sought_and_has_no_name(spool: Spool) -> None:
    reader = SpoolReader(spool.fd, Uploading(spool, []))
    assert reader.seekable()
    assert not hasattr(reader, "name")
    with pytest.raises(ValueError, match="whence"):
        reader.seek(0, 7)

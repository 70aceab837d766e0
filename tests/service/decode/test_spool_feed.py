"""What a worker is told of the bytes that it waits for."""

from __future__ import annotations

import pytest

from adafocus.service.decode.messages import Need, ProtocolError
from adafocus.service.decode.sparse_spool import SparseSpool
from adafocus.service.decode.spool import Spool
from adafocus.service.decode.spool_feed import SpoolFeed


def test_a_worker_is_told_once_there_is_enough() -> None:
    with Spool() as spool:
        feed = SpoolFeed(spool)
        feed.take(Need(size=8))
        spool.write(b"seven b")
        assert (feed.waits, feed.more()) == (True, None)
        spool.write(b"ytes more")
        assert feed.more() == {"type": "more", "size": 16, "complete": False}
        assert (feed.waits, feed.more()) == (False, None)


def test_all_bytes_are_enough_for_whatever_is_waited_for() -> None:
    with Spool() as spool:
        feed = SpoolFeed(spool)
        feed.take(Need(size=None))
        spool.write(b"all")
        assert feed.more() is None
        spool.finish()
        assert feed.more() == {"type": "more", "size": 3, "complete": True}


def test_a_worker_must_not_wait_for_what_it_was_told_of() -> None:
    with Spool() as spool:
        spool.write(b"there")
        feed = SpoolFeed(spool)
        with pytest.raises(ProtocolError, match="was told of"):
            feed.take(Need(size=5))
        feed.take(Need(size=6))
        with pytest.raises(ProtocolError, match="was told of"):
            feed.take(Need(size=7))


def test_the_next_worker_begins_anew() -> None:
    with Spool() as spool:
        feed = SpoolFeed(spool)
        feed.take(Need(size=4))
        spool.write(b"some bytes")
        feed.restart()
        assert (feed.size, feed.complete, feed.waits) == (10, False, False)


def test_ranges_of_a_file_are_asked_for_where_they_are_missing() -> None:
    with SparseSpool(100) as spool:
        wanted: list[tuple[int, int]] = []
        spool.on_wanted = lambda start, stop: wanted.append((start, stop))
        feed = SpoolFeed(spool)
        feed.take(Need(start=40, size=60))
        assert feed.more() is None
        feed.fetch()
        assert wanted == [(40, 60)]
        spool.write_at(40, bytes(30))
        assert feed.more() == {"type": "more", "start": 40, "size": 70, "complete": False}
        with pytest.raises(ProtocolError, match="was told of"):
            feed.take(Need(start=50, size=65))
        feed.take(Need(start=65, size=75))


@pytest.mark.parametrize("need", [Need(size=None), Need(size=10), Need(start=9, size=9), Need(start=90, size=101)])
def test_a_worker_must_ask_for_a_range_within_the_file(need: Need) -> None:
    with SparseSpool(100) as spool, pytest.raises(ProtocolError, match="range of the file"):
        SpoolFeed(spool).take(need)

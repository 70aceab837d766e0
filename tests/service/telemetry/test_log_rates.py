from __future__ import annotations

import logging
from typing import Any, cast

from adafocus.service.telemetry.log_rates import _MESSAGES_KEPT, BURST_SECONDS, PER_SECOND, RateLimit

BURST = int(PER_SECOND[logging.ERROR] * BURST_SECONDS)


def record(message: str, level: int = logging.ERROR, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("adafocus.test", level, "file", 1, message, (), None)
    made.fields = fields
    return made


def test_a_flood_of_one_message_leaves_room_for_others() -> None:
    limit = RateLimit(lambda: 0.0)
    assert sum(limit.filter(record("no descriptors")) for _ in range(100_000)) == BURST
    assert limit.filter(record("another"))


def test_the_next_line_says_how_many_were_left_out() -> None:
    now = 0.0
    limit = RateLimit(lambda: now)
    for _ in range(BURST + 7):
        limit.filter(record("no descriptors"))
    now = 1.0
    following = record("no descriptors", pid=1)
    assert limit.filter(following)
    assert cast("Any", following).fields == {"pid": 1, "suppressed": 7}
    after = record("no descriptors")
    assert limit.filter(after)
    assert cast("Any", after).fields == {}


def test_requests_may_be_many() -> None:
    limit = RateLimit(lambda: 0.0)
    assert sum(limit.filter(record("request", logging.INFO)) for _ in range(5000)) == 2000


def test_ever_new_messages_take_no_memory() -> None:
    limit = RateLimit(lambda: 0.0)
    for number in range(3 * _MESSAGES_KEPT):
        assert limit.filter(record(f"message {number}"))
    assert len(limit._buckets) <= _MESSAGES_KEPT

"""Limits how often one message is logged, so that an attack fills no disk and a broken part drowns no other message."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

PER_SECOND = {logging.DEBUG: 200.0, logging.INFO: 200.0, logging.WARNING: 5.0, logging.ERROR: 5.0}
"""Lines a second of one message, by level. Lines at INFO are those of requests, of which there may be many."""

BURST_SECONDS = 10.0
"""After a pause, the lines of so many seconds may come at once."""

_MESSAGES_KEPT = 256


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at: float
    suppressed: int = 0


class RateLimit(logging.Filter):
    """Passes a message at most so often; the next line of it says how many were left out (``suppressed``).

    A message is known by its logger and its text before arguments are put in.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._buckets: dict[tuple[str, str], _Bucket] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        rate = PER_SECOND.get(record.levelno, PER_SECOND[logging.ERROR])
        now, most = self._clock(), rate * BURST_SECONDS
        key = (record.name, str(record.msg)[:200])
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= _MESSAGES_KEPT:
                self._buckets.pop(next(iter(self._buckets)))
            bucket = self._buckets[key] = _Bucket(most, now)
        bucket.tokens = min(most, bucket.tokens + (now - bucket.at) * rate)
        bucket.at = now
        if bucket.tokens < 1.0:
            bucket.suppressed += 1
            return False
        bucket.tokens -= 1.0
        if bucket.suppressed:
            fields = getattr(record, "fields", None)
            record.fields = {**(fields if isinstance(fields, dict) else {}), "suppressed": bucket.suppressed}
            bucket.suppressed = 0
        return True

"""Logs as JSON Lines on standard error, with one line per request."""

from __future__ import annotations

import json
import logging
import time
from datetime import UTC, datetime
from functools import lru_cache

import msgspec

from adafocus.service.telemetry.log_rates import RateLimit

_encode = msgspec.json.Encoder(enc_hook=str).encode
_encode_any = json.JSONEncoder(ensure_ascii=False, default=str, check_circular=False, skipkeys=True).encode


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class JsonLines(logging.Formatter):
    """Formats a log record as one line of JSON; ``extra={"fields": {…}}`` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        """Format the record."""
        line: dict[str, object] = {
            "time": f"{_second(int(record.created))}.{int(record.created % 1 * 1000):03d}+00:00",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= fields
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.format(_encode(line), indent=0).decode()  # with spaces, for readers
        except (ValueError, TypeError):  # half of a surrogate pair, or a key that is not a string
            return _encode_any(line)


class _FieldsRecord(logging.LogRecord):
    """A record with the attributes of an empty one and these: an ordinary one takes a path apart for each line."""

    def __init__(self, name: str, level: int, message: str, fields: dict[str, object]) -> None:
        now = time.time()
        self.__dict__.update(_EMPTY)
        self.name, self.msg = name, message
        self.levelno, self.levelname = level, logging.getLevelName(level)
        self.created, self.msecs = now, float(int(now % 1 * 1000))
        self.fields = fields  # as `extra` does


_EMPTY = vars(logging.LogRecord("", logging.INFO, "", 0, "", (), None))


def log_fields(logger: logging.Logger, level: int, message: str, fields: dict[str, object]) -> None:
    """Log a message with members of its line: `Logger.log` with ``extra``, for what is logged once a request.

    It leaves out the place in the code, for which a record has to be asked, and which no line shows.
    """
    if logger.isEnabledFor(level):
        logger.handle(_FieldsRecord(logger.name, level, message, fields))


def configure(level: int = logging.INFO) -> None:
    """Send all logs of this process to standard error as JSON Lines. For programs, not for libraries.

    Nothing is gathered for a record that no line shows: https://docs.python.org/3/howto/logging.html#optimization.
    """
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    handler.addFilter(RateLimit())
    logging.basicConfig(level=level, handlers=[handler], force=True)

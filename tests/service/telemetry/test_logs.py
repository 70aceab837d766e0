"""The lines of the log."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from adafocus.service.telemetry.logs import JsonLines, log_fields


def line_of(fields: dict[str, object]) -> dict[str, object]:
    record = logging.LogRecord("adafocus.test", logging.INFO, "", 0, "said", (), None)
    record.fields = fields
    line: dict[str, object] = json.loads(JsonLines().format(record))
    return line


def test_a_line_is_json_with_the_fields_of_its_record() -> None:
    line = line_of({"count": 3, "path": Path("/x"), "text": "ä\n"})
    assert list(line) == ["time", "level", "logger", "message", "count", "path", "text"]
    assert (line["level"], line["message"], line["path"], line["text"]) == ("info", "said", "/x", "ä\n")
    record = logging.LogRecord("adafocus.test", logging.INFO, "", 0, "ready", (), None)
    assert JsonLines().format(record).endswith('"level": "info", "logger": "adafocus.test", "message": "ready"}')


@pytest.mark.parametrize("fields", [{"half": "\ud800"}, {"key": {(1, 2): 3, "b": 4}}, {"far": 1 << 70}])
def test_what_json_has_not_does_not_lose_the_line(fields: dict[str, object]) -> None:
    assert line_of(fields)["message"] == "said"


def test_fields_are_logged_as_with_extra(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("adafocus.test")
    with caplog.at_level(logging.INFO, "adafocus.test"):
        log_fields(logger, logging.INFO, "said", {"count": 3})
        log_fields(logger, logging.DEBUG, "not said", {})
    (record,) = caplog.records
    assert (record.name, record.getMessage(), record.__dict__["fields"]) == ("adafocus.test", "said", {"count": 3})

"""Rows of results: what `batch` writes for a video, whichever machine classified it."""

from __future__ import annotations

import json
import uuid
from typing import Any

from adafocus.cli.contact_sheet import Looked
from adafocus.cli.in_process import Failure, VideoInput
from adafocus.cli.offline.formats import Row


def row_of(video: VideoInput, result: Looked | Failure) -> Row:
    """The row of a video that was classified or could not be."""
    if isinstance(result, Failure):
        detail = result.detail.encode("utf-8", "backslashreplace").decode()  # it may quote a name that is not UTF-8
        return {"file": video.name, "error": {"code": result.code, "detail": detail}}
    answer: dict[str, Any] = json.loads(result.answer.to_json())
    return {"file": video.name, **answer}


def id_of(video: VideoInput) -> str:
    """The same id for the same name in every run, so that the rows of two runs can be compared."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"adafocus:{video.name}").hex

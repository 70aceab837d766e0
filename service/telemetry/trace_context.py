"""Parses the W3C ``traceparent`` header, which says which distributed trace a request belongs to."""

from __future__ import annotations

import re
from dataclasses import dataclass

HEADER = "traceparent"

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-[ -~]{0,200})?")


@dataclass(frozen=True, slots=True)
class TraceParent:
    """A well-formed ``traceparent``."""

    text: str
    trace_id: str
    parent_id: str


def parse(header: str | None) -> TraceParent | None:
    """Parse the header; None if there is none or it is malformed, which the standard says to ignore."""
    if not header:
        return None
    found = _FORM.fullmatch(header)
    if found is None or (found[3] is not None and found[0].startswith("00")):  # only later versions may add fields
        return None
    return TraceParent(found[0], found[1], found[2])

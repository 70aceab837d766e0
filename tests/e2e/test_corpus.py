"""Every clip of the corpus gets the outcome that its manifest expects; none is a fault of ours, and none hangs."""

import asyncio
import json
from pathlib import Path
from typing import Any

from service.schemas import Classification
from tests.service.server import make_settings, serving

SECONDS_EACH = 60
EMPTY = (400, "empty_body")
UNSUPPORTED = (415, "unsupported_media")
UNREADABLE = {UNSUPPORTED, (422, "undecodable"), (422, "no_video_stream")}
LIMIT = {(413, "too_large"), (422, "too_many_pixels"), (422, "too_long")}
OK = (200, "ok")

OUTCOMES: dict[str, set[tuple[int, str]]] = {
    "ok": {OK},
    "ok_partial": {OK, (422, "undecodable")},
    "ok_or_reject": {OK, *UNREADABLE},
    "ok_or_limit": {OK, *LIMIT},
    "reject_unreadable": UNREADABLE,
    "reject_no_video": {(422, "no_video_stream"), (422, "undecodable")},
    "reject_zero_frames": {(422, "undecodable"), (422, "no_video_stream")},
    "reject_encrypted": {(422, "undecodable")},
    "reject_not_video": {UNSUPPORTED},
    "reject_too_small": {OK, (422, "undecodable")},
    "reject_unsafe": {UNSUPPORTED},
    "reject_limit": LIMIT,
}
"""The manifest's words in HTTP."""


def expected(item: dict[str, Any]) -> set[tuple[int, str]]:
    if item["bytes"] == 0:
        return {EMPTY}
    return OUTCOMES[item["expected"]]


async def test_every_clip_gets_its_outcome(shared_dir: Path, tmp_path: Path) -> None:
    items = json.loads((shared_dir / "videos" / "manifest.json").read_text())["items"]
    wrong: dict[str, tuple[int, str]] = {}
    async with serving(make_settings(tmp_path, decode_workers=2)) as running, running.client() as client:
        for item in items:
            content = (shared_dir / "videos" / item["file"]).read_bytes()
            async with asyncio.timeout(SECONDS_EACH):
                answer = await client.post("/classify", params={"exit": "full", "trace": "true"}, content=content)
            outcome = (answer.status_code, "ok" if answer.status_code == 200 else answer.json()["code"])
            if outcome not in expected(item):
                wrong[item["file"]] = outcome
            if outcome == OK:
                told = Classification.model_validate(answer.json())
                assert 1 <= told.compute.frames_used <= told.compute.frames_decoded, item["file"]
        assert running.service.ready
        assert running.metric("adafocus_slots_active") == 0
    assert not wrong

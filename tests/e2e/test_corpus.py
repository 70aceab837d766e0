"""The shipped bundle on real files: the samples get their labels, and every clip of the corpus its expected outcome."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from adafocus.bundle.store import load_bundle
from adafocus.cli.configuration import shipped_bundle
from adafocus.service.schemas.classify import Classification
from adafocus.service.settings import Settings
from adafocus.video.sampler import wanted_frames
from tests.service.server import serving
from tests.video.clips import read_frames

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


@pytest.fixture
def settings(project_root: Path) -> Settings:
    return Settings(bundle=shipped_bundle(project_root / "bundles"), decode_workers=2, intra_op_threads=1)


async def test_the_samples_get_their_labels_in_every_way_that_the_readme_shows(
    project_root: Path, settings: Settings
) -> None:
    samples = sorted((project_root / "samples").glob("*.mp4"))
    assert samples
    async with serving(settings) as running, running.client() as client:
        for sample in samples:
            form = await client.post("/classify", files={"video": sample.read_bytes()})
            raw = await client.post("/classify?exit=full&top_k=1", content=sample.read_bytes())
            for answer in (form, raw):
                assert Classification.model_validate(answer.json()).predictions[0].label == sample.stem.split("_")[0]


def test_the_first_step_of_a_sample_takes_under_half_of_the_whole(project_root: Path) -> None:
    """The dearest part, counted: frames decoded until a streamed answer has its first step, against all."""
    sampling = load_bundle(shipped_bundle(project_root / "bundles")).manifest.sampling
    for path in sorted((project_root / "samples").glob("*.mp4")):
        count = read_frames(path)[2].info.frames
        wanted = wanted_frames(count, frames=sampling.frames, order=sampling.order)
        first, whole = (read_frames(path, visited)[1].frames_decoded for visited in (wanted[:1], wanted))
        assert first < whole / 2, path.name


async def test_every_clip_gets_its_outcome(shared_dir: Path, settings: Settings) -> None:
    items = json.loads((shared_dir / "videos" / "manifest.json").read_text())["items"]
    wrong: dict[str, tuple[int, str]] = {}
    async with serving(settings) as running, running.client() as client:
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

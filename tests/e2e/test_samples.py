"""The shipped model gets the rendered samples right for the right reason: its patches hold the thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from adafocus.cli.configuration import shipped_bundle
from adafocus.service.schemas.classify import Classification
from adafocus.service.settings import Settings
from samples.make import RATE, SCENES, SECONDS, Scene
from tests.service.server import serving

MOST_BYTES = 300_000


def test_there_is_a_clip_for_each_scene_and_none_is_large(project_root: Path) -> None:
    clips = sorted((project_root / "samples").glob("*.mp4"))
    assert [clip.stem for clip in clips] == sorted(scene.name for scene in SCENES)
    assert all(clip.stat().st_size < MOST_BYTES for clip in clips)


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.name)
async def test_the_patches_of_a_sample_hold_the_thing(scene: Scene, project_root: Path) -> None:
    settings = Settings(bundle=shipped_bundle(project_root / "bundles"), decode_workers=1, intra_op_threads=1)
    content = (project_root / "samples" / f"{scene.name}.mp4").read_bytes()
    async with serving(settings) as running, running.client() as client:
        sent = await client.post("/classify", params={"exit": "full", "trace": "true"}, content=content)
    answer = Classification.model_validate(sent.json())
    assert answer.predictions[0].label == scene.name.split("_")[0]
    assert answer.trace is not None
    for step in answer.trace:
        x, y = (share * side for share, side in zip(scene.path(step.frame / (RATE * SECONDS)), scene.size, strict=True))
        patch = step.patch
        assert patch.x <= x <= patch.x + patch.width and patch.y <= y <= patch.y + patch.height, step

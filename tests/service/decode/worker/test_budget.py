from __future__ import annotations

from dataclasses import replace

import pytest

from adafocus.bundle.manifest import FrameGeometry, Sampling
from adafocus.service.decode.pool import DecodeJob
from adafocus.service.decode.worker.budget import Budget, OverBudget
from adafocus.service.errors import Undecodable
from adafocus.video.limits import MediaLimits
from tests.service.decode.factory import clip, decode, filled, job, pool_of, rest


def test_pictures_and_processor_time_are_limited() -> None:
    now = 5.0
    budget = Budget(2.0, 1000, lambda: now)
    budget.check_pictures(10, 100)
    budget.check_time()
    with pytest.raises(OverBudget, match="11 pictures of 100 pixels are more than 1000"):
        budget.check_pictures(11, 100)
    now = 7.5
    with pytest.raises(OverBudget, match="2 seconds of processor time"):
        budget.check_time()


async def test_a_video_over_its_budget_is_answered_from_what_could_be_decoded() -> None:
    scan = DecodeJob(Sampling(frames=16, order=tuple(range(16))), FrameGeometry(resize=32, crop=32), MediaLimits())
    async with pool_of() as pool:
        with filled(clip(160)) as spool:
            limits = MediaLimits(max_decoded_pixels=60 * 64 * 64)
            async with pool.open(spool, replace(scan, limits=limits)) as session:
                frames = await rest(session)
        pids = pool.pids
        assert 0 < len(frames) < 16
        assert pool.pids == pids


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (MediaLimits(max_decoded_pixels=1), "max_decoded_pixels"),
        (MediaLimits(max_decode_seconds=1e-9), "max_decode_seconds"),
    ],
)
async def test_a_video_whose_first_frame_is_over_budget_is_refused(limits: MediaLimits, setting: str) -> None:
    async with pool_of() as pool:
        pids = pool.pids
        with pytest.raises(Undecodable, match=setting):
            await decode(pool, clip(40, g="1000"), job(order=range(16), limits=limits))
        assert pool.pids == pids

"""Shadow runs: which videos have one, and that closing the service ends them."""

from __future__ import annotations

import asyncio
import math

import pytest

from adafocus.service.engine.shadow_evidence import ShadowEvidence
from adafocus.service.errors import Undecodable
from adafocus.service.shadows import Shadows
from tests.bundle.factory import make_manifest


class Seen:
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.comparisons: list[tuple[bool, float]] = []

    def shadow_compared(self, agrees: bool, factor: float) -> None:
        self.comparisons.append((agrees, factor))


def shadows(share: float, *chances: float) -> tuple[Shadows, Seen]:
    seen, row = Seen(), iter(chances)
    return Shadows(share, seen, ShadowEvidence(make_manifest()), lambda: next(row)), seen


async def test_lots_are_drawn_only_if_a_share_is_set() -> None:
    assert not shadows(0.0)[0].wants_another()
    some, _ = shadows(0.25, 0.2, 0.3)
    assert [some.wants_another(), some.wants_another()] == [True, False]


async def test_one_runs_at_a_time_and_is_counted() -> None:
    running, seen = shadows(1.0, 0.5, 0.5)
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        running.compared("balanced", agrees=False)

    assert running.wants_another()
    running.run(work())
    assert not running.wants_another(), "one is running"
    gate.set()
    await running.settled()
    assert [agrees for agrees, _ in seen.comparisons] == [False]
    assert seen.comparisons[0][1] > 1.0
    assert running.wants_another()


async def test_a_problem_of_a_shadow_run_is_nobodys_and_closing_ends_the_others() -> None:
    running, seen = shadows(1.0)

    async def fails() -> None:
        raise Undecodable("gone")

    async def hangs() -> None:
        await asyncio.Event().wait()

    running.run(fails())
    await running.settled()
    running.run(hangs())
    await running.close()
    assert seen.comparisons == []


def test_the_factors_of_several_models_multiply_to_their_evidence() -> None:
    seen, alone = Seen(), [ShadowEvidence(make_manifest()) for _ in range(2)]
    models = [Shadows(1.0, seen, ShadowEvidence(make_manifest())) for _ in range(2)]
    told = [1.0, 1.0]
    for model, agrees in ((0, False), (1, True), (1, True), (0, False), (1, False)):
        models[model].compared("balanced", agrees=agrees)
        told[model] = alone[model].take("balanced", agrees=agrees)
    assert math.prod(factor for _, factor in seen.comparisons) == pytest.approx(math.prod(told))

"""The alarm about changed answers: how often it is false, and how soon it is true."""

from __future__ import annotations

import numpy as np
import pytest

from adafocus.bundle.guarantee import Guarantee
from adafocus.service.engine.shadow_evidence import EProcess, ShadowEvidence
from tests.bundle.factory import make_manifest

ALARM = 100.0


def first_alarm(rate: float, permitted: float, videos: int, random: np.random.Generator) -> int | None:
    process = EProcess(permitted)
    for number, failed in enumerate((random.random(videos) < rate).tolist(), start=1):
        process.take(failed=failed)
        if process.wealth >= ALARM:
            return number
    return None


def test_a_false_alarm_is_as_rare_as_promised_however_often_one_looks() -> None:
    random, tries = np.random.default_rng(0), 400
    alarms = sum(first_alarm(0.05, 0.05, 1500, random) is not None for _ in range(tries))
    assert alarms / tries <= 1 / ALARM + 3 * np.sqrt(0.01 * 0.99 / tries)


@pytest.mark.parametrize(("permitted", "rate", "within"), [(0.05, 0.2, 150), (0.02, 0.08, 450), (0.01, 0.05, 700)])
def test_more_changed_answers_than_permitted_are_noticed_soon(permitted: float, rate: float, within: int) -> None:
    random = np.random.default_rng(1)
    found = [first_alarm(rate, permitted, 6000, random) for _ in range(40)]
    assert all(number is not None for number in found)
    assert np.median([number for number in found if number is not None]) <= within


def test_agreement_lowers_the_evidence_and_it_never_overflows() -> None:
    process = EProcess(0.01)
    for _ in range(500):
        process.take(failed=False)
    assert process.wealth < 0.1
    for _ in range(5000):
        process.take(failed=True)
    assert np.isfinite(process.wealth)


def test_a_guarantee_states_what_is_permitted() -> None:
    manifest = make_manifest()
    full, balanced = manifest.operating_points
    strict = balanced.model_copy(update={"guarantee": Guarantee("answer_changed", 0.01, 0.95, 500, 1)})
    promised = ShadowEvidence(make_manifest(operating_points=(full, strict)))
    plain = ShadowEvidence(manifest)
    assert promised.take("balanced", agrees=False) > plain.take("balanced", agrees=False) > 1.0
    assert plain.take("balanced", agrees=True) < plain.take("balanced", agrees=False)


def largest_of_fronts(
    rate: float, permitted: float, videos: int, random: np.random.Generator, fronts: int = 4
) -> float:
    """The largest product of the evidence of four fronts, to which videos come at random, and which restart at times.

    A front that is started again goes on from the evidence of the one before, as `service.telemetry` keeps it.
    """
    fronts = 4
    kept, running = np.ones(fronts), [EProcess(permitted) for _ in range(fronts)]
    wealth, largest = np.ones(fronts), 1.0
    for failed in (random.random(videos) < rate).tolist():
        one = int(random.integers(fronts))
        running[one].take(failed=failed)
        wealth[one] = running[one].wealth
        largest = max(largest, float(np.prod(kept * wealth)))
        if random.random() < 0.01:
            again = int(random.integers(fronts))
            kept[again] *= wealth[again]
            wealth[again], running[again] = 1.0, EProcess(permitted)
    return largest


def test_a_false_alarm_of_several_fronts_is_as_rare_as_of_one() -> None:
    random, tries = np.random.default_rng(0), 300
    alarms = sum(largest_of_fronts(0.05, 0.05, 600, random) >= ALARM for _ in range(tries))
    assert alarms / tries <= 1 / ALARM + 3 * np.sqrt(0.01 * 0.99 / tries)


def test_several_fronts_notice_what_one_would() -> None:
    random = np.random.default_rng(1)
    assert np.median([largest_of_fronts(0.2, 0.05, 300, random) for _ in range(20)]) >= ALARM

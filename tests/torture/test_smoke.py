"""The attacks in small: they run, and a few hundred hostile inputs break nothing. ``make torture`` has more."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from benchmarks.service_process import SAMPLES, running_service
from tests.torture.attackers import ATTACKS
from tests.torture.fuzz import TARGETS, corpus
from tests.torture.mutants import MUTATORS, attack, mutant

MUTANTS = 60
INPUTS = 300


@pytest.mark.parametrize("name", TARGETS)
def test_parsers_stand_mutations_of_good_input(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADAFOCUS_FUZZ_FOLDER", str(tmp_path))
    good = list(corpus(name))
    chance = random.Random(name)
    for content in (b"", *good):
        TARGETS[name](content)
    for _ in range(INPUTS):
        TARGETS[name](mutant(good, chance)[: 1 << 16])


def test_every_mutator_changes_a_video_and_leaves_one() -> None:
    original = SAMPLES[0].read_bytes()
    for mutator in MUTATORS:
        data = bytearray(original)
        mutator(data, random.Random(7))
        assert len(data) > 0
        assert bytes(data) != original
    assert {"idle", "slow_bodies", "costly_videos"} <= set(ATTACKS)


def test_mutants_cost_no_honest_answer() -> None:
    environment = {"ADAFOCUS_DRAIN_GRACE_SECONDS": "0", "ADAFOCUS_MAX_DECODE_SECONDS": "3"}
    with running_service(environment=environment) as service:
        row = asyncio.run(attack(service, MUTANTS, 4, seed=2))
    assert row["breaches"] == 0, row

"""Orders of visits: which ones show a model as much, and which one is cheapest to decode."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from adafocus.video.frame_index import FrameIndex
from adafocus.video.plan import plan
from adafocus.video.sampler import sample_indices, visiting_order
from benchmarks.visit_order import CHOICES, cheapest_order, equal_orders, expected_packets, reach_of, rounds
from tests.video.test_plan import make_index

COUNTS = st.integers(1, 16)


@st.composite
def videos(draw: st.DrawFn) -> FrameIndex:
    """A file of one to five groups of pictures, with B-pictures and leading pictures."""
    sizes = draw(st.lists(st.tuples(st.integers(4, 40), st.integers(0, 2)), min_size=1, max_size=5))
    return make_index(sizes)


@given(COUNTS)
def test_the_rounds_in_turn_are_the_published_order(n: int) -> None:
    assert tuple(position for one in rounds(n) for position in one) == visiting_order(n, "coarse_to_fine")


@given(COUNTS)
def test_equal_orders_have_seen_the_same_positions_after_every_round_up_to_mirroring(n: int) -> None:
    ends = np.cumsum([len(one) for one in rounds(n)])
    for order in equal_orders(n):
        assert sorted(order) == list(range(n))
        mirrored = tuple(n - 1 - position for position in order)
        published = visiting_order(n, "coarse_to_fine")
        assert any(all(set(own[:end]) == set(published[:end]) for end in ends) for own in (order, mirrored))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=16).filter(any))
def test_reach_falls_from_one(shares: list[float]) -> None:
    reach = reach_of(np.array(shares) / sum(shares))
    assert reach[0] > 0.999
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(reach))


@given(videos(), COUNTS)
def test_every_step_being_certain_the_expected_packets_are_those_of_the_plan(index: FrameIndex, n: int) -> None:
    wanted = [sample_indices(index.frames, n)[position] for position in visiting_order(n, "coarse_to_fine")]
    total = sum(part.stop - part.start for part in plan(index, wanted))
    assert expected_packets(index, wanted, (1.0,) * n) == total


@given(videos(), st.integers(1, 12), st.lists(st.floats(0.01, 1), min_size=12, max_size=12))
def test_the_chosen_order_is_permitted_and_none_is_cheaper(index: FrameIndex, n: int, shares: list[float]) -> None:
    reach = reach_of(np.array(shares[:n]) / sum(shares[:n]))
    sampled = sample_indices(index.frames, n)
    for choice in CHOICES.values():
        orders = list(choice(n))
        chosen = cheapest_order(index, sampled, reach, orders)
        assert chosen in orders

        def cost(order: tuple[int, ...]) -> float:
            return expected_packets(index, [sampled[position] for position in order], reach)  # used at once

        assert cost(chosen) == min(map(cost, orders))

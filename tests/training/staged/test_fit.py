"""The loop of the stages: it learns, balances, and says when it diverges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from adafocus.training.errors import DivergedError
from adafocus.training.staged.fit import Fit, Numbers, balanced_shares, cosine, fit


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("abcd")), min_size=1, max_size=60))
def test_shares_sum_to_one_and_classes_follow_the_root_of_their_counts(rows: list[tuple[int, str]]) -> None:
    labels, units = [label for label, _ in rows], [unit for _, unit in rows]
    shares = balanced_shares(labels, units)
    assert shares.sum() == pytest.approx(1)
    roots = {label: labels.count(label) ** 0.5 for label in set(labels)}
    for label, root in roots.items():
        of_class = sum(share for share, own in zip(shares, labels, strict=True) if own == label)
        assert of_class == pytest.approx(root / sum(roots.values()))


def test_clips_of_a_large_source_are_drawn_less_often_than_those_of_a_small_one() -> None:
    shares = balanced_shares([0] * 5, ["large"] * 4 + ["small"])
    assert shares[4] == pytest.approx(2 * shares[0])


def test_the_rate_falls_from_one_to_nearly_nothing() -> None:
    factors = [cosine(done / 10) for done in range(11)]
    assert factors == sorted(factors, reverse=True)
    assert (factors[0], factors[-1]) == pytest.approx((1.0, 0.02))


def line(backbone: nn.Linear, head: nn.Linear) -> Tensor:
    points = torch.linspace(-1, 1, 16)[:, None]
    return ((head(backbone(points)) - 3 * points) ** 2).mean()


def test_it_learns() -> None:
    torch.manual_seed(0)
    backbone, head = nn.Linear(1, 4), nn.Linear(4, 1)
    before = float(line(backbone, head).detach())

    def loss_of(numbers: Numbers) -> Tensor:
        assert len(numbers) == 32
        return line(backbone, head)

    settings = Fit(steps=60, lr=0.02, warmup_steps=5)
    after = fit(
        list(backbone.parameters()), list(head.parameters()), loss_of, np.full(10, 0.1), settings,
        np.random.default_rng(0),
    )  # fmt: skip
    assert after < before / 10


def test_a_loss_that_is_not_finite_ends_it() -> None:
    layer = nn.Linear(1, 1)
    with pytest.raises(DivergedError, match=r"nan in step 1; try a smaller rate than 0.1"):
        fit(
            list(layer.parameters()), [], lambda numbers: layer.weight.sum() * torch.nan, np.ones(1),
            Fit(steps=2, lr=0.1), np.random.default_rng(0),
        )  # fmt: skip

"""Views: the thing stays where it is said to be, whatever is done to the picture around it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from adafocus.training.staged.views import ViewRange, boxed_again, recolour, square_views, whole_views

SIDE = 96


def dots(places: Tensor, height: float = 1.0) -> Tensor:
    """Grey pictures in a letterbox, each with a white dot of 5 pixels at its place."""
    images = torch.zeros(len(places), 3, SIDE, SIDE)
    bar = round((1 - height) / 2 * SIDE)
    images[:, :, bar : SIDE - bar] = 0.2
    for image, (y, x) in zip(images, (places * SIDE).int().tolist(), strict=True):
        image[:, y - 2 : y + 3, x - 2 : x + 3] = 1.0
    return images


def brightness_at(images: Tensor, places: Tensor) -> list[float]:
    size = images.shape[-1]
    return [
        float(image[0, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3].max())
        for image, (y, x) in zip(images, (places * size).int().tolist(), strict=True)
    ]


@given(seed=st.integers(0, 2**32), y=st.floats(0.2, 0.8), x=st.floats(0.1, 0.9), height=st.sampled_from([0.8, 1.0]))
def test_the_thing_lies_where_a_whole_view_says(seed: int, y: float, x: float, height: float) -> None:
    places = torch.tensor([[y, x]]).repeat(4, 1)
    views, moved = whole_views(dots(places, height), places, height, ViewRange(), np.random.default_rng(seed))
    assert views.shape == (4, 3, SIDE, SIDE)
    assert ((moved > 0) & (moved < 1)).all()
    assert min(brightness_at(views, moved)) > 0.5


@given(seed=st.integers(0, 2**32))
def test_the_bars_of_a_letterbox_never_cover_the_thing(seed: int) -> None:
    random = np.random.default_rng(seed)
    places = torch.from_numpy(random.uniform(0.15, 0.85, (6, 2))).float()
    views, moved = whole_views(dots(places, 0.8), places, 0.8, ViewRange(), random)
    boxed = boxed_again(views, moved, 0.8, random)
    assert min(brightness_at(boxed, moved)) > 0.5


def test_a_square_holds_what_it_lies_around() -> None:
    places = torch.tensor([[0.3, 0.6], [0.7, 0.2]])
    exact = ViewRange(zoom=(1.0, 1.0), off_centre=0.0)
    views = square_views(dots(places), places, 0.25, 48, exact, np.random.default_rng(0))
    assert min(brightness_at(views, torch.full((2, 2), 0.5))) > 0.9


@pytest.mark.parametrize("blur", [False, True])
def test_colours_stay_in_their_range(blur: bool) -> None:
    random = np.random.default_rng(3)
    images = torch.rand(8, 3, 16, 16)
    coloured = recolour(images, random, blur=blur)
    assert coloured.min() >= 0
    assert coloured.max() <= 1
    assert not torch.equal(coloured, images)


def test_the_same_generator_gives_the_same_views() -> None:
    places = torch.full((2, 2), 0.5)
    made = [whole_views(dots(places), places, 1.0, ViewRange(), np.random.default_rng(7))[0] for _ in range(2)]
    assert torch.equal(*made)

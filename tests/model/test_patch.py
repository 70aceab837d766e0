from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from adafocus.export.graphs import cut_patches
from adafocus.model.patch import crop_patches
from tests import tolerances

unit = st.floats(0, 1, width=32)


def frames(count: int, height: int = 40, width: int = 48) -> Tensor:
    """Smooth noise in grey levels, uint8 [count, 3, height, width]."""
    noise = torch.rand(count, 3, height + 4, width + 4, generator=torch.Generator().manual_seed(7))
    return (torch.nn.functional.avg_pool2d(noise, 5, stride=1) * 255).to(torch.uint8)


def grid(images: Tensor, centre: Tensor, size: int) -> Tensor:
    return crop_patches(images.float(), centre, size)


def served(images: Tensor, centre: Tensor, size: int) -> Tensor:
    return cut_patches(images.permute(0, 2, 3, 1), centre, size)


Crop = Callable[[Tensor, Tensor, int], Tensor]
both = pytest.mark.parametrize("crop", [grid, served])


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs.float(), atol=255 * tolerances.PATCH_PIXELS_OF_FULL_SCALE, rtol=0)


@settings(deadline=None)
@given(y=unit, x=unit, size=st.integers(1, 40))
def test_both_ways_agree_anywhere(y: float, x: float, size: int) -> None:
    centre = torch.tensor([[y, x]])
    assert_same(grid(frames(1), centre, size), served(frames(1), centre, size))


def test_both_ways_agree_at_the_published_size() -> None:
    centre = torch.rand(16, 2, generator=torch.Generator().manual_seed(2))
    centre[:4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    images = frames(16, 224, 224)
    assert_same(grid(images, centre, 128), served(images, centre, 128))


@both
@pytest.mark.parametrize(("y", "x", "top", "left"), [(0, 0, 0, 0), (1, 1, 24, 32), (0, 1, 0, 32), (0.5, 0.25, 12, 8)])
def test_whole_pixels_are_a_plain_slice(crop: Crop, y: float, x: float, top: int, left: int) -> None:
    images = frames(1)
    patch = crop(images, torch.tensor([[float(y), float(x)]]), 16)
    assert_same(patch, images[:, :, top : top + 16, left : left + 16])


@both
def test_half_a_pixel_is_the_mean_of_two(crop: Crop) -> None:
    images = frames(1)
    patch = crop(images, torch.tensor([[0.5 / 24, 0.0]]), 16)
    assert_same(patch, (images[..., :16, :16].float() + images[..., 1:17, :16]) / 2)


@both
def test_a_patch_may_be_the_whole_frame(crop: Crop) -> None:
    images = frames(2, 32, 32)
    assert_same(crop(images, torch.rand(2, 2), 32), images)


def test_gradients_are_those_of_finite_differences() -> None:
    images = frames(2).double()
    centre = torch.tensor([[0.131, 0.777], [0.31, 0.02]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda at: crop_patches(images, at, 8), (centre,), eps=1e-7, atol=1e-4)


def test_the_gradient_is_the_slope_of_the_frame() -> None:
    """On a frame that darkens to the right by one a pixel, moving the patch right darkens it by the way it may move."""
    ramp = -torch.arange(48.0).expand(1, 1, 40, 48)
    centre = torch.tensor([[0.3, 0.4]], requires_grad=True)
    crop_patches(ramp, centre, 16).mean().backward()
    assert centre.grad is not None
    torch.testing.assert_close(centre.grad, torch.tensor([[0.0, -32.0]]), atol=1e-3, rtol=0)

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.patch import crop_patches, crop_patches_lerp

Crop = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
CROPS: list[Crop] = [crop_patches, crop_patches_lerp]
AGREEMENT = 2e-5
"""The grid's coordinates run from -1 to 1 and lose bits of the pixel's fraction: on white noise, where neighbours
differ most, that would show as 3e-5; the lerp stays within 4e-6 of float64."""

unit = st.floats(0, 1, width=32)


def frames(count: int, height: int = 40, width: int = 48) -> torch.Tensor:
    noise = torch.randn(count, 3, height + 4, width + 4, generator=torch.Generator().manual_seed(7))
    return torch.nn.functional.avg_pool2d(noise, 5, stride=1)


@given(y=unit, x=unit, size=st.integers(1, 40))
def test_both_ways_agree_anywhere(y: float, x: float, size: int) -> None:
    centre = torch.tensor([[y, x]])
    difference = crop_patches(frames(1), centre, size) - crop_patches_lerp(frames(1), centre, size)
    assert difference.abs().max() <= AGREEMENT


def test_both_ways_agree_at_the_published_size() -> None:
    images = frames(64, 224, 224)
    centre = torch.rand(64, 2, generator=torch.Generator().manual_seed(2))
    centre[:4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    difference = crop_patches(images, centre, 128) - crop_patches_lerp(images, centre, 128)
    assert difference.abs().max() <= AGREEMENT


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize(("y", "x", "top", "left"), [(0, 0, 0, 0), (1, 1, 24, 32), (0, 1, 0, 32), (0.5, 0.25, 12, 8)])
def test_whole_pixels_are_a_plain_slice(crop: Crop, y: float, x: float, top: int, left: int) -> None:
    images = frames(1)
    patch = crop(images, torch.tensor([[float(y), float(x)]]), 16)
    torch.testing.assert_close(patch, images[:, :, top : top + 16, left : left + 16], atol=AGREEMENT, rtol=0)


@pytest.mark.parametrize("crop", CROPS)
def test_half_a_pixel_is_the_mean_of_two(crop: Crop) -> None:
    images = frames(1)
    patch = crop(images, torch.tensor([[0.5 / 24, 0.0]]), 16)
    torch.testing.assert_close(patch, (images[..., :16, :16] + images[..., 1:17, :16]) / 2, atol=AGREEMENT, rtol=0)


@pytest.mark.parametrize("crop", CROPS)
def test_a_patch_may_be_the_whole_frame(crop: Crop) -> None:
    images = frames(2, 32, 32)
    torch.testing.assert_close(crop(images, torch.rand(2, 2), 32), images, atol=AGREEMENT, rtol=0)


def test_gradients_reach_the_centre_and_agree() -> None:
    images = frames(4).double()
    weights = torch.randn(4, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    gradients = []
    for crop in CROPS:
        centre = torch.tensor([[0.1, 0.2], [0.3, 0.9], [0.77, 0.41], [0.51, 0.03]], dtype=torch.float64)
        centre.requires_grad_()
        (crop(images, centre, 16) * weights).sum().backward()
        assert centre.grad is not None
        assert (centre.grad.abs() > 0).all()
        gradients.append(centre.grad)
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


def test_gradients_are_those_of_finite_differences() -> None:
    centre = torch.tensor([[0.131, 0.777]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda at: crop_patches(frames(1).double(), at, 8), (centre,), eps=1e-7)


def test_bytes_are_cut_in_their_own_units() -> None:
    images = torch.randint(0, 256, (2, 3, 40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(4))
    centre = torch.tensor([[0.3, 0.6], [1.0, 0.0]])
    patch = crop_patches_lerp(images, centre, 16)
    assert patch.dtype == torch.float32
    torch.testing.assert_close(patch, crop_patches(images.float(), centre, 16), atol=255 * AGREEMENT, rtol=0)

"""The arm with temporal shift: shift only where it learns, and clips whose frames are augmented alike."""

import pytest
import torch

from adafocus.model.backbones import build_backbone
from adafocus.model.config import BackboneConfig
from adafocus.model.tsm import TemporalShift
from adafocus.training.staged.cuts import WHOLE, Cut
from adafocus.training.staged.fixed_start import FixedStart
from benchmarks.evidence.sky_tsm import clip_view, shifted
from benchmarks.evidence.sky_views import FIXED_BLOCKS


@pytest.fixture
def start() -> FixedStart:
    torch.manual_seed(0)
    network = build_backbone(BackboneConfig(name="mobilenet_v2", depth=(1, 2, 3, 4, 3)))
    return FixedStart(network, FIXED_BLOCKS)  # type: ignore[arg-type] # it is one of inverted residual blocks


def test_the_fixed_blocks_see_each_frame_alone(start: FixedStart) -> None:
    blocks = list(shifted(start, 8).backbone.blocks.children())
    has_shift = [isinstance(getattr(block, "shift", None), TemporalShift) for block in blocks]
    assert not any(has_shift[:FIXED_BLOCKS])
    assert any(has_shift[FIXED_BLOCKS:])


def test_a_frame_changes_what_its_neighbours_show(start: FixedStart) -> None:
    shifted(start, 4).eval()
    frames = torch.rand(4, 3, 64, 64)
    changed = frames.clone()
    changed[0] = 0.0
    with torch.no_grad():
        before, after = (start(start.maps(images)) for images in (frames, changed))
    assert not torch.equal(before[1], after[1])


def test_frames_of_a_clip_are_augmented_alike() -> None:
    image, place = torch.rand(3, 64, 64), torch.full((1, 2), 0.5)
    view = clip_view(torch.stack([image] * 3), place, Cut(32, ranges=WHOLE, views=2), 1.0, [5, 0])
    assert view.shape == (3, 3, 32, 32)
    assert torch.equal(view[0], view[1]) and torch.equal(view[1], view[2])
    other = clip_view(torch.stack([image] * 3), place, Cut(32, ranges=WHOLE, views=2), 1.0, [5, 1])
    assert not torch.equal(view, other)

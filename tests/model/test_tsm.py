from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from adafocus.model import AdaFocusTSM, BackboneConfig, build
from adafocus.model.backbones import build_backbone
from adafocus.model.tsm import TemporalShift, shiftable_blocks
from tests import tolerances
from tests.model.factory import SMALL_CLIP, SMALL_FRAME, clip, clip_model


def test_the_shift_moves_a_share_of_the_channels_each_way() -> None:
    x = torch.arange(1, 9.0).view(1, 2, 4, 1, 1)  # one clip, two frames, four channels
    shifted = TemporalShift(2, 4)(x.flatten(0, 1)).view(2, 4)
    assert shifted.tolist() == [[5, 0, 3, 4], [0, 2, 7, 8]]


def test_the_shift_keeps_clips_apart() -> None:
    x = torch.randn(6, 8, 2, 2)
    shift = TemporalShift(3, 8)
    torch.testing.assert_close(shift(x), torch.cat([shift(x[:3]), shift(x[3:])]))


def test_which_blocks_are_shifted() -> None:
    with torch.device("meta"):
        mobilenet = build_backbone(BackboneConfig("mobilenet_v2"))
        resnet = build_backbone(BackboneConfig("resnet50"))
    shifted = {id(block) for block in shiftable_blocks(mobilenet)}
    numbers = [number for number, block in enumerate(mobilenet.blocks, start=1) if id(block) in shifted]
    assert numbers == [3, 5, 6, 8, 9, 10, 12, 13, 15, 16]
    assert len(shiftable_blocks(resnet)) == 16


def test_the_heads_start_small_and_without_bias() -> None:
    torch.manual_seed(0)
    model = AdaFocusTSM(replace(SMALL_CLIP, num_classes=400))
    for head in (model.glance_head, model.focus_head, model.glance_auxiliary, model.focus_auxiliary):
        assert head.weight.std().item() == pytest.approx(0.001, rel=0.05)
        assert head.weight.mean().abs().item() < 1e-4
        assert not head.bias.any()


@torch.no_grad()
def test_glance_then_focus_is_the_whole() -> None:
    model = clip_model()
    glance_frames, focus_frames = clip(3, 3), clip(3, 4, seed=2)
    out = model(glance_frames, focus_frames)
    glance = model.glance_part(glance_frames)
    focus = model.focus_part(focus_frames, glance.patch_centre)
    torch.testing.assert_close(out.logits, glance.logits + focus.logits)
    torch.testing.assert_close(out.patch_centre, glance.patch_centre)
    given = model(glance_frames, focus_frames, 1 - glance.patch_centre)
    assert (given.focus_logits - out.focus_logits).abs().max() > 1e-4


@torch.no_grad()
def test_a_row_answers_as_if_alone() -> None:
    model = clip_model()
    glance_frames, focus_frames = clip(3, 3), clip(3, 4, seed=2)
    batched = model(glance_frames, focus_frames).logits
    for row in range(3):
        alone = model(glance_frames[row : row + 1], focus_frames[row : row + 1]).logits
        torch.testing.assert_close(alone, batched[row : row + 1], **tolerances.CLIP_MODEL_STEPS)


def test_the_answers_heads_read_detached_features() -> None:
    model = clip_model().train()
    out = model(clip(2, 3), clip(2, 4, seed=2))
    out.logits.sum().backward(retain_graph=True)
    moved = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert moved == {"glance_head.weight", "glance_head.bias", "focus_head.weight", "focus_head.bias"}
    out.glance_logits.sum().backward(retain_graph=True)
    assert model.glance.stem.conv.weight.grad is not None
    assert model.policy.centre.weight.grad is None
    out.focus_logits.square().sum().backward()
    assert model.policy.centre.weight.grad is not None
    assert model.policy.centre.weight.grad.norm() > 0


def test_the_policys_gradient_stops_before_the_glance() -> None:
    model = clip_model().train()
    model.glance_part(clip(2, 3)).patch_centre.sum().backward()
    assert all(parameter.grad is None for parameter in model.glance.parameters())
    model.glance_part(clip(2, 3), detach_policy=False).patch_centre.sum().backward()
    assert model.glance.stem.conv.weight.grad is not None


@torch.no_grad()
def test_the_glance_may_be_resized() -> None:
    config = replace(SMALL_CLIP, glance=replace(SMALL_CLIP.glance, input_size=48))
    assert clip_model(config)(clip(2, 3), clip(2, 4)).logits.shape == (2, 5)


def test_a_frame_configuration_is_refused() -> None:
    with pytest.raises(ValueError, match="needs kind 'clip', got 'frame'"):
        AdaFocusTSM(SMALL_FRAME)
    assert isinstance(build(SMALL_CLIP), AdaFocusTSM)

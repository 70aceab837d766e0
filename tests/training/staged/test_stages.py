"""The parts that stages are made of: fixed layers, and a classifier that carries the focus's logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from adafocus.model import build
from adafocus.model.adafocus import AdaFocus
from adafocus.model.backbones import EfficientNetLite0, InvertedResidualNetwork, MobileNetV2, spatial_mean
from adafocus.model.config import BackboneConfig, ModelConfig, Pooling
from adafocus.training.data.augment import normalise
from adafocus.training.staged.fit import Fit
from adafocus.training.staged.fixed_start import FixedStart, forget_colours, strides_by_slicing
from adafocus.training.staged.stages import Empty, carry_logits, learn_to_recognise, taken

DEPTH = (1, 1, 1)


@pytest.fixture
def network() -> InvertedResidualNetwork:
    torch.manual_seed(0)
    return MobileNetV2(0.25, DEPTH).eval()


def test_the_two_parts_make_the_whole_network(network: InvertedResidualNetwork) -> None:
    images = torch.rand(2, 3, 32, 32)
    start = FixedStart(network, 2)
    start.eval()
    with torch.no_grad():
        assert torch.allclose(start(start.maps(images)), network(normalise(images * 255)), atol=1e-5)


def test_fixed_layers_keep_their_statistics_while_the_rest_learns(network: InvertedResidualNetwork) -> None:
    start = FixedStart(network, 2)
    start.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    start(start.maps(torch.rand(2, 3, 32, 32)))
    changed = {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("blocks.2.") for name in changed)
    assert {id(one) for one in start.learning()} == {id(one) for one in network.blocks[2:].parameters()}


@pytest.mark.parametrize(("kernel", "size"), [(3, 12), (3, 7), (5, 12), (5, 7)])
def test_a_stride_by_slicing_gives_the_same_result_and_gradient(kernel: int, size: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 4, kernel, stride=2, padding=kernel // 2, groups=4)
    x = torch.rand(2, 4, size, size)
    expected = layer(x)
    expected.square().sum().backward()
    slope = layer.weight.grad
    layer.zero_grad()
    with strides_by_slicing(nn.Sequential(layer)):
        assert layer.stride == (1, 1)
        made = layer(x)
    made.square().sum().backward()
    assert layer.stride == (2, 2)
    assert torch.allclose(made, expected, atol=1e-6)
    assert slope is not None
    assert layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad, slope, atol=1e-4)
    assert torch.allclose(layer(x), expected)


@pytest.mark.parametrize("kind", [MobileNetV2, EfficientNetLite0])
def test_a_backbone_gives_the_same_with_its_strides_by_slicing(kind: type[MobileNetV2 | EfficientNetLite0]) -> None:
    torch.manual_seed(0)
    network = kind(0.25, (1, 1, 1)).eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = network(images)
        with strides_by_slicing(network.blocks):
            assert torch.allclose(network(images), expected, atol=1e-5)


def test_a_network_that_forgot_colours_sees_their_mean_alone(network: InvertedResidualNetwork) -> None:
    images = torch.rand(2, 3, 32, 32)
    grey = images.mean(dim=1, keepdim=True).expand_as(images)
    with torch.no_grad():
        expected = network(grey)
        assert not torch.allclose(network(images), expected, atol=1e-3)
        forget_colours(network)
        assert torch.allclose(network(images), expected, atol=1e-4)


@pytest.mark.parametrize("blocks", [-1, 3, 99])
def test_something_must_be_left_to_learn(network: InvertedResidualNetwork, blocks: int) -> None:
    with pytest.raises(ValueError, match=rf"{blocks} blocks are to stay fixed; permitted: 0 to 2"):
        FixedStart(network, blocks)


def heatmap_model(mlp_width: int, pooling: Pooling = "max") -> AdaFocus:
    tiny = BackboneConfig("mobilenet_v2", width=0.25, depth=DEPTH)
    model = build(ModelConfig(3, steps=4, frame_size=64, patch_size=32, policy="heatmap", policy_channels=4,
                              mlp_width=mlp_width, pooling=pooling, glance=tiny, focus=tiny))  # fmt: skip
    assert isinstance(model, AdaFocus)
    return model.eval()


def test_the_carried_answer_is_the_middle_of_the_extreme_logits_so_far() -> None:
    torch.manual_seed(1)
    model = heatmap_model(6)
    carry_logits(model)
    with torch.no_grad():
        given = model(torch.randn(2, 4, 3, 64, 64))
    own = given.focus_logits
    expected = (own.cummax(dim=1).values + own.cummin(dim=1).values) / 2
    assert torch.allclose(given.step_logits, expected, atol=1e-4)


def test_with_mean_pooling_the_carried_answer_is_the_mean_of_the_logits_so_far() -> None:
    torch.manual_seed(1)
    model = heatmap_model(3, "mean")
    carry_logits(model)
    with torch.no_grad():
        given = model(torch.randn(2, 4, 3, 64, 64))
    expected = given.focus_logits.cumsum(dim=1) / torch.arange(1, 5)[:, None]
    assert torch.allclose(given.step_logits, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("pooling", "message"), [("max", "permitted with pooling 'max': twice the classes, 6"), ("mean", "the classes, 3")]
)
def test_carrying_needs_one_or_two_features_for_each_class(pooling: Pooling, message: str) -> None:
    with pytest.raises(ValueError, match=f"mlp_width is 16; .*{message}"):
        carry_logits(heatmap_model(16, pooling))


def test_of_empty_views_all_classes_are_answered_alike(network: InvertedResidualNetwork) -> None:
    torch.manual_seed(0)
    start, head = FixedStart(network, 2), nn.Linear(network.channels, 2)
    with torch.no_grad():
        maps = start.maps(torch.rand(8, 3, 32, 32)).half().numpy()
        nothing = start.maps(torch.full((4, 3, 32, 32), 0.5)).half().numpy()
    even, labels, settings = np.full(8, 1 / 8), torch.zeros(8, dtype=torch.int64), Fit(100, 1e-3, warmup_steps=5)
    empty = Empty(nothing, np.full(4, 1 / 4), 0.5)
    learn_to_recognise(
        start, head, maps, labels, even, settings, np.random.default_rng(0), dropout=0, label_smoothing=0, empty=empty
    )
    with torch.no_grad():
        of_thing, of_nothing = (
            head(spatial_mean(start(taken(some, np.arange(4))))).softmax(dim=1)[:, 0].mean() for some in (maps, nothing)
        )
    assert of_thing > 0.8
    assert 0.3 < of_nothing < 0.7

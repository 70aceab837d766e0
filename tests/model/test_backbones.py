from __future__ import annotations

import pytest
import torch

from adafocus.model import BackboneConfig
from adafocus.model.backbones import build_backbone, by_clip, feature_map_size, scaled, spatial_mean


@pytest.mark.parametrize(
    ("name", "parameters", "channels"),
    [
        ("mobilenet_v2", 2_223_872, 1280),
        ("efficientnet_lite0", 3_371_008, 1280),
        ("resnet50", 23_508_032, 2048),
        ("resnet18", 11_176_512, 512),
    ],
)
def test_published_networks_have_their_published_size(name: str, parameters: int, channels: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(BackboneConfig(name))
    assert sum(parameter.numel() for parameter in backbone.parameters()) == parameters
    assert backbone.channels == channels


@pytest.mark.parametrize("side", [32, 48, 64, 96, 97, 128, 224])
@pytest.mark.parametrize(
    "config",
    [
        BackboneConfig("mobilenet_v2", 0.25),
        BackboneConfig("efficientnet_lite0", 0.25),
        BackboneConfig("resnet50", 0.125, (1, 1, 1, 1)),
        BackboneConfig("resnet18", 0.125, (1, 2)),
        BackboneConfig("resnet18", 0.5, (1, 1, 1)),
    ],
    ids=str,
)
def test_the_feature_map_is_as_large_as_foretold(config: BackboneConfig, side: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(config)
        feature_map = backbone(torch.zeros(2, 3, side, side))
    expected = feature_map_size(backbone, side)
    assert feature_map.shape == (2, backbone.channels, expected, expected)


def test_width_scales_in_multiples_of_eight() -> None:
    assert [scaled(32, width) for width in (0.05, 0.25, 0.5, 0.75, 1.0, 1.4)] == [8, 8, 16, 24, 32, 48]
    assert scaled(24, 0.5) == 16  # 12 rounds to 16 rather than lose a third


def test_an_untrained_network_keeps_its_signal() -> None:
    torch.manual_seed(0)
    for name in ("mobilenet_v2", "efficientnet_lite0", "resnet18"):
        features = spatial_mean(build_backbone(BackboneConfig(name, 0.5)).eval()(torch.randn(2, 3, 64, 64)))
        assert 1e-3 < features.std() < 1e3


def test_rows_are_grouped_by_clip() -> None:
    rows = torch.arange(12).view(6, 2)
    assert by_clip(rows, 3).tolist() == [rows[:3].tolist(), rows[3:].tolist()]

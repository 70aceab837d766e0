from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adafocus.model import PUBLISHED, BackboneConfig, ModelConfig

backbones = st.builds(
    BackboneConfig,
    name=st.sampled_from(["resnet50", "resnet18"]),
    width=st.floats(0.05, 4),
    depth=st.none() | st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple),
)
configs = st.builds(
    ModelConfig,
    num_classes=st.integers(2, 400),
    steps=st.integers(1, 32),
    frame_order=st.sampled_from(["coarse_to_fine", "sequential"]),
    patch_size=st.integers(32, 224),
    glance=st.builds(BackboneConfig, name=st.just("mobilenet_v2"), input_size=st.none() | st.integers(32, 224)),
    focus=backbones,
    dropout=st.floats(0, 0.9),
    clip_policy_widths=st.lists(st.integers(1, 64), min_size=1, max_size=3).map(tuple),
)


@given(configs)
def test_survives_json(config: ModelConfig) -> None:
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_survive_json(name: str) -> None:
    config = PUBLISHED[name]
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"num_classes": 5, "patch": 3}, "unknown model key 'patch'"),
        ({"num_classes": 5, "glance": {"name": "resnet50", "size": 3}}, "unknown backbone key 'size'"),
        ({}, "model key 'num_classes' is missing"),
        ({"num_classes": 5, "glance": {}}, "backbone key 'name' is missing"),
        ({"num_classes": 5, "glance": "resnet50"}, "glance is 'resnet50'"),
        (
            {"num_classes": 5, "focus": {"name": "resnet34"}},
            "resnet34.*mobilenet_v2, efficientnet_lite0, resnet50, resnet18",
        ),
        ({"num_classes": 1}, "num_classes is 1; permitted: a whole number from 2"),
        ({"num_classes": True}, "num_classes is True"),
        ({"num_classes": 5, "steps": 2.0}, "steps is 2.0"),
        ({"num_classes": 5, "kind": "clip"}, "steps is 16; permitted: a whole number from 1 to 1"),
        ({"num_classes": 5, "pooling": "sum"}, "pooling is 'sum'; permitted: max, mean"),
        ({"num_classes": 5, "kind": "clip", "steps": 1, "pooling": "mean"}, "pooling is 'mean'; permitted: max"),
        ({"num_classes": 5, "kind": "video"}, "kind is 'video'; permitted: frame, clip"),
        ({"num_classes": 5, "frame_order": "random"}, "coarse_to_fine, sequential"),
        ({"num_classes": 5, "patch_size": 225}, "patch_size is 225; permitted: a whole number from 32 to 224"),
        ({"num_classes": 5, "dropout": 1.0}, "dropout is 1.0"),
        ({"num_classes": 5, "dropout": float("nan")}, "dropout is nan"),
        ({"num_classes": 5, "clip_policy_widths": []}, "clip_policy_widths"),
        ({"num_classes": 5, "clip_policy_widths": 512}, "clip_policy_widths is 512"),
        ({"num_classes": 5, "focus": {"name": "resnet50", "input_size": 96}}, "never shrunk"),
        ({"num_classes": 5, "focus": {"name": "resnet50", "depth": [1]}}, r"depth is \(1,\); permitted: 2 to 4"),
        ({"num_classes": 5, "focus": {"name": "resnet50", "depth": [1, 0]}}, "depth is 0; permitted"),
        ({"num_classes": 5, "focus": {"name": "resnet50", "depth": 4}}, "depth is 4"),
        ({"num_classes": 5, "glance": {"name": "mobilenet_v2", "depth": [1, 1]}}, "permitted: 3 to 7 numbers"),
        ({"num_classes": 5, "glance": {"name": "mobilenet_v2", "width": 0}}, "width is 0"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModelConfig.from_dict(data)

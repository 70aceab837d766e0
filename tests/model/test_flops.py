"""The published prices come out of the modules; nothing here is typed into the code that counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from adafocus.model import PUBLISHED, BackboneConfig, ModelConfig, build
from adafocus.model.backbones import build_backbone
from adafocus.model.config import BackboneName
from adafocus.model.flops import UNEXPLAINED_CONSTANT, StepFlops, step_flops
from tests import tolerances
from tests.model.factory import SMALL_CLIP, SMALL_FRAME, clip_model, frame_model


def count(config: ModelConfig) -> StepFlops:
    with torch.device("meta"):
        return step_flops(build(config))


PER_VIDEO = {
    **{f"actnet_mbv2_p{patch}": gflops for patch, gflops in ((96, 17.6), (128, 27.0), (160, 39.0))},
    **{f"actnet_res50_p{patch}": gflops for patch, gflops in ((96, 24.8), (128, 34.1), (160, 46.1))},
    **{f"{data}_mbv2_p128": 27.0 for data in ("fcvid", "minik")},
    **{f"{data}_res50_p128": 34.1 for data in ("fcvid", "minik")},
    **{
        f"{data}_tsm_p{patch}": gflops
        for data in ("sthv1", "sthv2")
        for patch, gflops in ((128, 18.5), (144, 23.5), (160, 27.5), (176, 33.7))
    },
}
JESTER = {"jester_tsm_p128": 18.5, "jester_tsm_p176": 33.7}  # 27 classes: 18.449 is printed as its neighbours' 18.5


def test_every_published_model_is_here() -> None:
    assert set(PUBLISHED) == set(PER_VIDEO) | set(JESTER)


@pytest.mark.parametrize("name", PER_VIDEO)
def test_published_gflops_per_video(name: str) -> None:
    config = PUBLISHED[name]
    assert round(count(config).paper_per_step * config.steps / 1e9, 1) == PER_VIDEO[name]


@pytest.mark.parametrize("name", JESTER)
def test_published_gflops_per_jester_video(name: str) -> None:
    assert count(PUBLISHED[name]).paper_per_step / 1e9 == pytest.approx(JESTER[name], abs=tolerances.PUBLISHED_GFLOPS)


@pytest.mark.parametrize(
    ("name", "patch", "published", "served"),
    [
        ("actnet_mbv2_p128", 96, 1_100_965_410, 1_100_249_984),
        ("actnet_mbv2_p128", 128, 1_684_842_018, 1_684_126_592),
        ("actnet_mbv2_p128", 160, 2_435_540_514, 2_434_825_088),
        ("actnet_mbv2_p128", 192, 3_353_060_898, 3_352_345_472),
        ("actnet_res50_p128", 96, 1_547_401_154, 1_546_522_624),
        ("actnet_res50_p128", 128, 2_131_277_762, 2_130_399_232),
        ("actnet_res50_p128", 160, 2_881_976_258, 2_881_097_728),
        ("sthv2_tsm_p128", 128, 18_458_820_608, 18_452_762_624),
        ("sthv2_tsm_p144", 144, 23_534_600_192, 23_528_542_208),
        ("sthv2_tsm_p160", 160, 27_467_202_560, 27_461_144_576),
        ("sthv2_tsm_p176", 176, 33_716_928_512, 33_710_870_528),
    ],
)
def test_to_the_unit(name: str, patch: int, published: int, served: int) -> None:
    flops = count(replace(PUBLISHED[name], patch_size=patch))
    assert flops.paper_per_step == published
    assert flops.per_step == served


@pytest.mark.parametrize("name", ["mobilenet_v2", "efficientnet_lite0", "resnet18"])
def test_a_backbone_costs_what_torch_counts(name: BackboneName) -> None:
    config = replace(PUBLISHED["actnet_mbv2_p128"], glance=BackboneConfig(name))
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_backbone(config.glance)(torch.zeros(1, 3, 224, 224))
    assert count(config).breakdown["glance network"] == counter.get_total_flops() // 2


def test_the_parts_of_a_frame() -> None:
    flops = count(PUBLISHED["actnet_mbv2_p128"])
    assert flops.breakdown == {
        "glance network": 299_494_272,
        "policy": 35_606_528,
        "focus network": 1_334_575_104,
        "classifier MLP": 13_631_488,
        "step head": 819_200,
        "glance auxiliary head": 256_000,
        "focus auxiliary head": 409_600,
        "batch norm channels": 49_824,
        "unexplained constant": UNEXPLAINED_CONSTANT,
    }
    assert flops.glance == 299_494_272 + 35_606_528
    assert flops.focus == 1_334_575_104 + 13_631_488 + 819_200


def test_the_parts_of_a_clip() -> None:
    assert count(PUBLISHED["sthv2_tsm_p128"]).breakdown == {
        "glance network": 2_395_954_176,
        "policy": 35_849_216,
        "glance head": 1_781_760,
        "focus network": 16_014_901_248,
        "focus head": 4_276_224,
        "glance auxiliary head": 1_781_760,
        "focus auxiliary head": 4_276_224,
    }


@pytest.mark.parametrize("kind", ["frame", "clip"])
def test_counting_leaves_no_trace(kind: str) -> None:
    model = (frame_model() if kind == "frame" else clip_model()).train()
    model.focus.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    flops = step_flops(model)
    assert flops == count(SMALL_FRAME if kind == "frame" else SMALL_CLIP)
    assert model.training and not model.focus.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())

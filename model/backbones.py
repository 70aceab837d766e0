"""The convolutional networks behind the glance and the focus: MobileNetV2, EfficientNet-Lite0 and ResNet.

Each comes at any width and depth. Sources: Sandler et al., CVPR 2018 (MobileNetV2); Tan and Le, ICML 2019, in the Lite
variant without squeeze-and-excitation (EfficientNet-Lite0); He et al., CVPR 2016, with the stride in the 3×3
convolution (ResNet). A backbone maps images to a feature map; pooling and classification belong to its users.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from adafocus.model.config import BackboneConfig


class Stage(NamedTuple):
    """A run of inverted residual blocks: expansion, channels, stride of the first block, side of the kernel."""

    expansion: int
    channels: int
    stride: int
    kernel: int = 3


MOBILENET_V2 = (
    Stage(1, 16, 1),
    Stage(6, 24, 2),
    Stage(6, 32, 2),
    Stage(6, 64, 2),
    Stage(6, 96, 1),
    Stage(6, 160, 2),
    Stage(6, 320, 1),
)
EFFICIENTNET_LITE0 = (
    Stage(1, 16, 1),
    Stage(6, 24, 2),
    Stage(6, 40, 2, 5),
    Stage(6, 80, 2),
    Stage(6, 112, 1, 5),
    Stage(6, 192, 2, 5),
    Stage(6, 320, 1),
)

TENSORFLOW_EPSILON = 1e-3
"""Batch norm's epsilon in EfficientNet-Lite; torch's default, 1e-5, gives other features with the same weights."""

RESNET_WIDTHS = (64, 128, 256, 512)


def scaled(channels: int, width: float) -> int:
    """Channels times width, rounded to a multiple of 8, never below 8 nor more than a tenth below the product."""
    exact = channels * width
    rounded = max(8, int(exact + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * exact else rounded


def spatial_mean(feature_map: Tensor) -> Tensor:
    """The pooled feature of a feature map: [N, C, h, w] -> [N, C]."""
    return feature_map.mean(dim=(2, 3))


def by_clip(rows: Tensor, frames: int) -> Tensor:
    """The frames of each clip side by side: [B·T, ...] -> [B, T, ...]."""
    return rows.view(-1, frames, *rows.shape[1:])


class ConvNorm(nn.Module):
    """Convolution without bias, "same" padding for odd kernels, and batch norm; the caller applies the activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")  # fan-in: depthwise layers keep their scale too

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h / stride, w / stride]."""
        y: Tensor = self.norm(self.conv(x))
        return y


class SamePaddedConvNorm(ConvNorm):
    """`ConvNorm` as TensorFlow pads it: what an even side lacks is added at the bottom and right only.

    With stride 2 and an even side, torch's symmetric padding would read pixels that lie one further up and left than
    those that the weights were trained on.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride, groups)
        self.norm.eps = TENSORFLOW_EPSILON
        if stride == 2:
            self.conv.padding = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h / stride, w / stride], rounded up."""
        kernel = self.conv.kernel_size[0]
        if self.conv.stride[0] == 2:
            below, right = (((side + 1) // 2 - 1) * 2 + kernel - side for side in x.shape[2:])  # never negative
            x = F.pad(x, (right // 2, (right + 1) // 2, below // 2, (below + 1) // 2))
        return super().forward(x)


ConvLayer = Callable[..., ConvNorm]
"""`ConvNorm` or a subclass of it."""


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 and EfficientNet-Lite: expand 1×1, depthwise, project 1×1 without activation."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, kernel: int = 3, layer: ConvLayer = ConvNorm
    ) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.shift: nn.Module = nn.Identity()  # the clip model puts its temporal shift here
        self.expand = layer(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = layer(hidden, hidden, kernel, stride, groups=hidden)
        self.project = layer(hidden, outputs, 1)
        self.activation = nn.ReLU6(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, outputs, h / stride, w / stride]."""
        y: Tensor = self.shift(x)
        if self.expand is not None:
            y = self.activation(self.expand(y))
        y = self.activation(self.depthwise(y))
        y = self.project(y)
        return x + y if self.residual else y


class Bottleneck(nn.Module):
    """ResNet-50's block: reduce 1×1, 3×3, expand 1×1 to four times the width."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.shift: nn.Module = nn.Identity()
        self.reduce = ConvNorm(inputs, width, 1)
        self.spatial = ConvNorm(width, width, 3, stride)
        self.expand = ConvNorm(width, outputs, 1)
        self.shortcut = ConvNorm(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else None
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, 4 width, h / stride, w / stride]."""
        y: Tensor = self.activation(self.reduce(self.shift(x)))
        y = self.activation(self.spatial(y))
        y = self.expand(y)
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(x)
        out: Tensor = self.activation(shortcut + y)
        return out


class BasicBlock(nn.Module):
    """ResNet-18's block: two 3×3 convolutions."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.shift: nn.Module = nn.Identity()
        self.first = ConvNorm(inputs, width, 3, stride)
        self.second = ConvNorm(width, width, 3)
        self.shortcut = ConvNorm(inputs, width, 1, stride) if stride != 1 or inputs != width else None
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, h, w] -> [N, width, h / stride, w / stride]."""
        y: Tensor = self.activation(self.first(self.shift(x)))
        y = self.second(y)
        shortcut: Tensor = x if self.shortcut is None else self.shortcut(x)
        out: Tensor = self.activation(shortcut + y)
        return out


class InvertedResidualNetwork(nn.Module):
    """A stem, stages of inverted residual blocks and a last 1×1 convolution; ``channels`` is the map's depth.

    A ``depth`` of fewer than all stages ends the network with the last of those, without the 1×1 convolution.
    """

    def __init__(
        self, stages: tuple[Stage, ...], width: float, depth: tuple[int, ...], layer: ConvLayer = ConvNorm
    ) -> None:
        super().__init__()
        self.depth = depth
        channels = scaled(32, width)
        self.stem = layer(3, channels, 3, 2)
        blocks: list[nn.Module] = []
        for stage, repeats in zip(stages, depth, strict=False):
            outputs = scaled(stage.channels, width)
            for index in range(repeats):
                stride = stage.stride if index == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, stride, stage.expansion, stage.kernel, layer))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        whole = len(depth) == len(stages)
        self.channels = scaled(1280, width) if whole else channels
        self.last = layer(channels, self.channels, 1) if whole else None
        self.activation = nn.ReLU6(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, channels, H / 32, W / 32], rounded up; a larger map with fewer stages."""
        x: Tensor = self.activation(self.stem(images))
        x = self.blocks(x)
        if self.last is None:
            return x
        out: Tensor = self.activation(self.last(x))
        return out


class MobileNetV2(InvertedResidualNetwork):
    """MobileNetV2 up to its last 1×1 convolution."""

    def __init__(self, width: float, depth: tuple[int, ...]) -> None:
        super().__init__(MOBILENET_V2, width, depth)


class EfficientNetLite0(InvertedResidualNetwork):
    """EfficientNet-Lite0 up to its last 1×1 convolution, without stochastic depth."""

    def __init__(self, width: float, depth: tuple[int, ...]) -> None:
        super().__init__(EFFICIENTNET_LITE0, width, depth, SamePaddedConvNorm)


class ResNet(nn.Module):
    """A ResNet up to its last block; ``channels`` is the depth of the feature map."""

    def __init__(self, block: type[Bottleneck] | type[BasicBlock], width: float, depth: tuple[int, ...]) -> None:
        super().__init__()
        channels = scaled(64, width)
        self.stem = ConvNorm(3, channels, 7, 2)
        self.activation = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        stages: list[nn.Module] = []
        for number, repeats in enumerate(depth):
            planes = scaled(RESNET_WIDTHS[number], width)
            blocks: list[nn.Module] = []
            for index in range(repeats):
                blocks.append(block(channels, planes, 2 if number > 0 and index == 0 else 1))
                channels = planes * block.expansion
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] -> [N, channels, H / 32, W / 32] (with four stages), rounded up."""
        x: Tensor = self.pool(self.activation(self.stem(images)))
        out: Tensor = self.stages(x)
        return out


Backbone = MobileNetV2 | EfficientNetLite0 | ResNet


def build_backbone(config: BackboneConfig) -> Backbone:
    """The network that a configuration describes, freshly initialised."""
    if config.name == "mobilenet_v2":
        return MobileNetV2(config.width, config.stages)
    if config.name == "efficientnet_lite0":
        return EfficientNetLite0(config.width, config.stages)
    return ResNet(Bottleneck if config.name == "resnet50" else BasicBlock, config.width, config.stages)


def feature_map_size(backbone: Backbone, side: int) -> int:
    """Side of the feature map of a square image, from the strides of the network's own layers."""
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d) and module.stride[0] > 1 and module.kernel_size[0] > 1:
            side = -(-side // module.stride[0])  # odd kernels whose padding keeps the size round up
        elif isinstance(module, nn.MaxPool2d):
            side = -(-side // 2)
    return side


def shiftable_blocks(backbone: Backbone) -> list[nn.Module]:
    """The blocks that get a temporal shift: all of a ResNet's, else the expanding ones with a residual."""
    if isinstance(backbone, InvertedResidualNetwork):
        return [
            block
            for block in backbone.blocks
            if isinstance(block, InvertedResidual) and block.residual and block.expand is not None
        ]
    return [block for stage in backbone.stages if isinstance(stage, nn.Sequential) for block in stage]

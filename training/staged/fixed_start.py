"""A backbone whose first layers stay as ImageNet left them: these run once for each view, and only the rest learns.

Few clips cannot improve layers that see edges and spots, and those layers are the costly half of a network. Their maps
are kept in half precision.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from adafocus.model.backbones import InvertedResidualNetwork
from adafocus.training.data.augment import normalise
from adafocus.training.recipe import Precision

Maps = npt.NDArray[np.float16]
"""[N, channels, h, w]: what the fixed layers made of N views."""


def forget_colours(network: InvertedResidualNetwork) -> None:
    """Average the weights of the first layer over the colours, so that the network sees their mean alone.

    A few sessions show each class before a few skies, whose colours a network would learn in place of the class.
    """
    with torch.no_grad():
        weight = network.stem.conv.weight
        weight.copy_(weight.mean(dim=1, keepdim=True).expand_as(weight))


@contextmanager
def strides_by_slicing(layers: nn.Module) -> Iterator[None]:
    """Compute depthwise convolutions with a stride as such without one, of whose result every so many pixels are taken.

    The result is the same. The gradient of a depthwise convolution with a stride has no fast kernel on processors: two
    such layers of MobileNetV2 took more than half of the time of a step of training. Layers that are padded by their
    caller, as those of EfficientNet-Lite0, stay as they are, because the caller looks at their stride.
    """
    found = [layer for layer in layers.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    strided = [(layer, layer.stride) for layer in found if layer.stride != (1, 1) and layer.padding != (0, 0)]
    hooks = []
    for layer, (down, right) in strided:
        layer.stride = (1, 1)
        hooks.append(layer.register_forward_hook(partial(_every, down, right)))
    try:
        yield
    finally:
        for layer, stride in strided:
            layer.stride = stride
        for hook in hooks:
            hook.remove()


def _every(down: int, right: int, layer: nn.Module, given: object, made: Tensor) -> Tensor:
    return made[:, :, ::down, ::right]


class FixedStart(nn.Module):
    """A backbone of inverted residual blocks, divided after ``blocks`` of them.

    Batch norms of the fixed layers keep their statistics; those of the rest learn.
    """

    def __init__(self, backbone: InvertedResidualNetwork, blocks: int, precision: Precision = "fp32") -> None:
        super().__init__()
        if not 0 <= blocks < len(backbone.blocks):
            raise ValueError(f"{blocks} blocks are to stay fixed; permitted: 0 to {len(backbone.blocks) - 1}")
        self.backbone, self._blocks, self._half = backbone, blocks, precision == "bf16"

    def maps(self, images: Tensor) -> Tensor:
        """Return the maps of views [N, 3, H, W] in 0..1, computed as in serving."""
        network = self.backbone
        modes = [(module, module.training) for module in network.modules()]
        network.eval()
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=self._half):
            x = normalise(images * 255).contiguous(memory_format=torch.channels_last)
            made: Tensor = network.blocks[: self._blocks](network.activation(network.stem(x)))
        for module, training in modes:
            module.training = training
        return made

    def forward(self, maps: Tensor) -> Tensor:
        """Return the backbone's feature map [N, C, h, w] of maps of the fixed layers."""
        network = self.backbone
        sliced = strides_by_slicing(network.blocks[self._blocks :]) if self.training else nullcontext()
        with sliced, torch.autocast("cpu", torch.bfloat16, enabled=self._half and self.training):
            x: Tensor = network.blocks[self._blocks :](maps)
            if network.last is not None:
                x = network.activation(network.last(x))
        return x.float()

    def learning(self) -> list[nn.Parameter]:
        """Return the parameters of the layers that learn."""
        last = [] if self.backbone.last is None else list(self.backbone.last.parameters())
        return [*self.backbone.blocks[self._blocks :].parameters(), *last]

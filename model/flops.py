"""Counts the cost of one step from the modules as they run; one multiply-add is one FLOP.

The count covers convolutions, linear layers, and the two linear halves of the recurrence (6·H² together). There are two
totals: the cost as *served*, without the auxiliary heads, and the *paper's* counting, which reproduces the published
numbers per frame exactly.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from adafocus.model.classifier import StepHeads
from adafocus.model.config import Kind
from adafocus.model.video_model import VideoModel

Component = Literal["glance", "focus"]

GLANCE_HEAD = "glance auxiliary head"
"""Name of the part that a bundle with exits after the glance serves."""

UNEXPLAINED_CONSTANT = 2
"""The published per-frame numbers of the frame models exceed every count of their modules by exactly this."""

FRAME_CONVENTION = (
    "Multiply-adds of convolutions, linear layers and the GRU; one multiply-add is one FLOP. The paper's per-step "
    "number adds both auxiliary training heads, one per batch-norm channel, and an unexplained constant 2. Neither "
    "counts biases, activations, pooling, resizing, patch interpolation, the running maximum or decoding."
)
CLIP_CONVENTION = (
    "Multiply-adds of convolutions and linear layers; one multiply-add is one FLOP. The paper's number adds both "
    "auxiliary training heads. Neither counts batch norm, biases, activations, pooling, the temporal shift, patch "
    "interpolation or decoding."
)


class StepPart(NamedTuple):
    """A summand of a step's cost in the counting of the published tables.

    ``component`` is the graph that runs it when serving; None for what only the published counting includes.
    """

    name: str
    flops: int
    component: Component | None


@dataclass(frozen=True)
class StepFlops:
    """Multiply-adds of one step; for a clip model, of the whole clip.

    Attributes:
        parts: what ``paper_per_step`` is the sum of.
        convention: in words, what is counted.
    """

    parts: tuple[StepPart, ...]
    convention: str

    @property
    def glance(self) -> int:
        """As served: glance network (and the clip model's glance head) and policy."""
        return sum(part.flops for part in self.parts if part.component == "glance")

    @property
    def focus(self) -> int:
        """As served: focus network, classifier MLP and one head."""
        return sum(part.flops for part in self.parts if part.component == "focus")

    @property
    def paper_per_step(self) -> int:
        """In the counting of the published tables."""
        return sum(part.flops for part in self.parts)

    @property
    def breakdown(self) -> dict[str, int]:
        """The parts by name."""
        return {part.name: part.flops for part in self.parts}

    @property
    def per_step(self) -> int:
        """Multiply-adds of one served step."""
        return self.glance + self.focus


@dataclass(frozen=True)
class _Counting:
    """The parts of one kind of model that are counted.

    Attributes:
        parts: name of each part, the module that it is, and the graph that runs it; None is training only.
        extras: name of each summand of the published numbers that is no multiply-add, and its size.
        convention: in words.
    """

    parts: tuple[tuple[str, str, Component | None], ...]
    extras: Mapping[str, Callable[[nn.Module], int]]
    convention: str


_COUNTINGS: Mapping[Kind, _Counting] = {
    "frame": _Counting(
        parts=(
            ("glance network", "glance", "glance"),
            ("policy", "policy", "glance"),
            ("focus network", "focus", "focus"),
            ("classifier MLP", "classifier.linear", "focus"),
            ("step head", "classifier.heads", "focus"),
            (GLANCE_HEAD, "glance_head", None),
            ("focus auxiliary head", "focus_head", None),
        ),
        extras={
            "batch norm channels": lambda model: _norm_channels(model),
            "unexplained constant": lambda model: UNEXPLAINED_CONSTANT,
        },
        convention=FRAME_CONVENTION,
    ),
    "clip": _Counting(
        parts=(
            ("glance network", "glance", "glance"),
            ("policy", "policy", "glance"),
            ("glance head", "glance_head", "glance"),
            ("focus network", "focus", "focus"),
            ("focus head", "focus_head", "focus"),
            (GLANCE_HEAD, "glance_auxiliary", None),
            ("focus auxiliary head", "focus_auxiliary", None),
        ),
        extras={},
        convention=CLIP_CONVENTION,
    ),
}


def step_flops(model: VideoModel, *, glance_exit: bool = False) -> StepFlops:
    """Count one step of a model by running it once on zeros, wherever its weights are (the meta device will do).

    With ``glance_exit`` the glance's auxiliary head is served, too, and counts as a part of the glance.
    """
    counting, config = _COUNTINGS[model.config.kind], model.config
    count = _trace(model, (1, config.sampling.per_step, 3, config.frame_size, config.frame_size))
    parts = tuple(
        StepPart(name, count[module], "glance" if glance_exit and name == GLANCE_HEAD else component)
        for name, module, component in counting.parts
    )
    extras = tuple(StepPart(name, size(model), None) for name, size in counting.extras.items())
    return StepFlops((*parts, *extras), counting.convention)


def _norm_channels(model: nn.Module) -> int:
    return sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d))


def _trace(model: VideoModel, shape: tuple[int, ...]) -> Counter[str]:
    """Multiply-adds of one answer on zeros, summed under every prefix of each module's name."""
    count: Counter[str] = Counter()
    like = next(model.parameters())
    frames = torch.zeros(shape, dtype=like.dtype, device=like.device)
    with ExitStack() as hooks, _evaluating(model), torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear | StepHeads):
                hooks.callback(module.register_forward_hook(_counter(count, name)).remove)
        model.answer(frames)
    return count


def _counter(count: Counter[str], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    parts = name.split(".")
    prefixes = [".".join(parts[:length]) for length in range(1, len(parts) + 1)]

    def hook(module: nn.Module, _: object, output: Tensor) -> None:
        for prefix in prefixes:
            count[prefix] += _multiply_adds(module, output)

    return hook


def _multiply_adds(module: nn.Module, output: Tensor) -> int:
    """Every output element of a convolution or linear layer costs its fan-in."""
    if isinstance(module, nn.Conv2d):
        return output.numel() * module.in_channels // module.groups * math.prod(module.kernel_size)
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    if isinstance(module, StepHeads):
        return output.numel() * module.weight.shape[2]
    raise TypeError(f"no rule for {type(module).__name__}")


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while: counting must not touch the batch-norm statistics."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, training in modes.items():
            module.training = training

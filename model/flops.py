"""The cost of one step, counted from the modules. One multiply-add is one FLOP (arXiv 2112.14238, section 4).

Counted: convolutions, linear layers, and the two linear halves of the recurrence (6·H² together). Two totals come out:
what is *served* (without the auxiliary heads), and the *paper's* counting, which reproduces the published per-frame
numbers to the unit.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.adafocus import AdaFocus
from model.classifier import StepHeads
from model.tsm import AdaFocusTSM

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


@dataclass(frozen=True)
class StepFlops:
    """Multiply-adds of one step; for a clip model, of the whole clip.

    Attributes:
        glance: as served: glance network (and the clip model's glance head) and policy.
        focus: as served: focus network, classifier MLP and one head.
        paper_per_step: in the counting of the published tables.
        breakdown: what ``paper_per_step`` is the sum of.
        convention: in words, what the two counts include.
    """

    glance: int
    focus: int
    paper_per_step: int
    breakdown: Mapping[str, int]
    convention: str

    @property
    def per_step(self) -> int:
        """Multiply-adds of one served step."""
        return self.glance + self.focus


def step_flops(model: AdaFocus | AdaFocusTSM) -> StepFlops:
    """Count one step of a model by running it once on zeros, wherever its weights are (the meta device will do)."""
    return _frame_flops(model) if isinstance(model, AdaFocus) else _clip_flops(model)


def _frame_flops(model: AdaFocus) -> StepFlops:
    size = model.config.frame_size
    count = _trace(model, (1, 1, 3, size, size))
    breakdown = {
        "glance network": count["glance"],
        "policy": count["policy"],
        "focus network": count["focus"],
        "classifier MLP": count["classifier.linear"],
        "step head": count["classifier.heads"],
        "glance auxiliary head": count["glance_head"],
        "focus auxiliary head": count["focus_head"],
        "batch norm channels": _norm_channels(model),
        "unexplained constant": UNEXPLAINED_CONSTANT,
    }
    return StepFlops(
        glance=breakdown["glance network"] + breakdown["policy"],
        focus=breakdown["focus network"] + breakdown["classifier MLP"] + breakdown["step head"],
        paper_per_step=sum(breakdown.values()),
        breakdown=breakdown,
        convention=FRAME_CONVENTION,
    )


def _clip_flops(model: AdaFocusTSM) -> StepFlops:
    size, config = model.config.frame_size, model.config
    count = _trace(model, (1, config.glance_frames, 3, size, size), (1, config.focus_frames, 3, size, size))
    breakdown = {
        "glance network": count["glance"],
        "policy": count["policy"],
        "glance head": count["glance_head"],
        "focus network": count["focus"],
        "focus head": count["focus_head"],
        "glance auxiliary head": count["glance_auxiliary"],
        "focus auxiliary head": count["focus_auxiliary"],
    }
    return StepFlops(
        glance=breakdown["glance network"] + breakdown["policy"] + breakdown["glance head"],
        focus=breakdown["focus network"] + breakdown["focus head"],
        paper_per_step=sum(breakdown.values()),
        breakdown=breakdown,
        convention=CLIP_CONVENTION,
    )


def _norm_channels(model: nn.Module) -> int:
    return sum(m.num_features for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d))


def _trace(model: nn.Module, *shapes: tuple[int, ...]) -> Counter[str]:
    """Multiply-adds of one forward on zeros, summed under every prefix of each module's name."""
    count: Counter[str] = Counter()
    like = next(model.parameters())
    inputs = [torch.zeros(shape, dtype=like.dtype, device=like.device) for shape in shapes]
    with ExitStack() as hooks, _evaluating(model), torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d | nn.Linear | StepHeads):
                hooks.callback(module.register_forward_hook(_counter(count, name)).remove)
        model(*inputs)
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

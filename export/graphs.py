"""The graphs of a bundle as torch modules: uint8 frames and states in, states out.

Normalisation and patch cropping are inside. The modules hold no weights of their own; they call the model's step
functions, so that what is exported is what was trained. The arguments of ``forward`` are named as the file's tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from adafocus.bundle.manifest import Precision, TensorSpec
from adafocus.bundle.signature import BATCH, VIDEOS, Signature, Widths, clip_signature, frame_signature
from adafocus.model.adafocus import AdaFocus
from adafocus.model.backbones import by_clip
from adafocus.model.tsm import AdaFocusTSM
from adafocus.model.video_model import VideoModel

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

EXAMPLE_SIZES = {BATCH: 4, VIDEOS: 2}
"""Sizes of the example inputs. A dimension of 1 would be frozen silently, and equal ones would be tied together."""

Cut = Callable[[Tensor, Tensor, int], Tensor]
"""`cut_patches`, or the same in another form."""

_TORCH_TYPES = {"uint8": torch.uint8, "int64": torch.int64, "float32": torch.float32}


class PixelNorm(nn.Module):
    """Grey levels 0..255 to the networks' input: ``(x / 255 - mean) / std`` per colour, as one product and one sum."""

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(IMAGENET_MEAN, dtype=torch.float64), torch.tensor(IMAGENET_STD, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * std)).float()[:, None, None], persistent=False)
        self.register_buffer("shift", (-mean / std).float()[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """[N, 3, H, W] of any type -> [N, 3, H, W] float32."""
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        return images.float() * scale + shift


class PlaneNorm(PixelNorm):
    """Colours become planes, then `PixelNorm`: [N, H, W, 3] of any type -> [N, 3, H, W] float32."""

    def forward(self, images: Tensor) -> Tensor:
        """Permute before converting, while a value is one byte rather than four."""
        return super().forward(images.permute(0, 3, 1, 2))


class RowNorm(nn.Module):
    """The same on whole rows of pixels: [N, side, side, 3] of any type -> [N, 3, side, side] float32.

    For graphs that will be quantised: those run with colours innermost, where a product per colour would take one
    number at a time.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        colours = PixelNorm()
        for name, values in colours.named_buffers():
            self.register_buffer(name, values.flatten().repeat(side), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        """Normalise, then turn colours into planes."""
        rows = frames.reshape(-1, self.side, self.side * 3).float()
        rows = rows * self.get_buffer("scale") + self.get_buffer("shift")
        return rows.reshape(-1, self.side, self.side, 3).permute(0, 3, 1, 2)


def _normaliser(side: int, *, by_rows: bool) -> nn.Module:
    return RowNorm(side) if by_rows else PlaneNorm()


def cut_patches(frames: Tensor, centre: Tensor, patch_size: int) -> Tensor:
    """Crop by two gathers of whole rows and columns and a linear interpolation along each axis.

    Equal to ``model.patch.crop_patches`` on the same pixels. Chosen by measurement (benchmarks/results): gathering
    whole lines copies long runs of bytes; gathering pixels or sampling a grid reads each pixel separately.

    Args:
        frames: uint8 [N, H, W, 3].
        centre: float32 [N, 2] in (y, x) order, each in [0, 1].
        patch_size: P, at most H and W.

    Returns:
        float32 [N, 3, P, P] in grey levels.
    """
    N, H, W = frames.shape[0], frames.shape[1], frames.shape[2]
    P = patch_size
    top, y = _whole_and_rest(centre[:, 0] * (H - P))
    left, x = _whole_and_rest(centre[:, 1] * (W - P))
    rows = frames.reshape(-1, W * 3).index_select(0, _lines(top, P, H)).reshape(N, P + 1, W, 3)
    turned = rows.permute(0, 2, 3, 1).reshape(-1, 3 * (P + 1))  # (N·W, 3·(P+1)): one line per column
    columns = turned.index_select(0, _lines(left, P, W)).reshape(N, P + 1, 3, P + 1).float()
    across = _between(columns[:, :-1], columns[:, 1:], x)
    patches = _between(across[..., :-1], across[..., 1:], y)  # (N, x, 3, y)
    return patches.permute(0, 2, 3, 1)


def _between(first: Tensor, second: Tensor, share: Tensor) -> Tensor:
    # Written out, because torch.lerp exports both of its formulas and a choice between them.
    return first + (second - first) * share[:, None, None, None]


def _whole_and_rest(corner: Tensor) -> tuple[Tensor, Tensor]:
    whole = corner.floor()
    return whole.long(), corner - whole


def _lines(first: Tensor, patch_size: int, size: int) -> Tensor:
    """Indices of P+1 lines per row of the batch, in the batch's stacked lines; clamped where the weight is zero."""
    offsets = torch.arange(patch_size + 1, device=first.device)
    within = (first[:, None] + offsets).clamp(max=size - 1)
    stacked = torch.arange(first.shape[0], device=first.device)[:, None] * size + within
    return stacked.flatten()


class GlanceGraph(nn.Module):
    """One glance per row: the frame model's glance network and policy."""

    component: Literal["glance"] = "glance"

    def __init__(
        self, model: AdaFocus, *, by_rows: bool = False, look_ahead: bool = False, glance_exit: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self.look_ahead = look_ahead
        self.glance_exit = glance_exit
        self.images = _normaliser(model.config.frame_size, by_rows=by_rows)

    def forward(self, frames: Tensor, policy_state: Tensor) -> tuple[Tensor, ...]:
        """uint8 [B, H, W, 3], [B, S] -> glance feature [B, G], patch centre [B, 2], next policy state [B, S].

        Looking ahead, the state may be [V, S]: B = T·V rows are T steps of V videos, step after step. With an exit
        after the glance, the auxiliary head's logits [B, C] follow.
        """
        images: Tensor = self.images(frames)
        glance = self.model.glance_steps if self.look_ahead else self.model.glance_step
        feature, centre, state = glance(images, policy_state)
        return (
            (feature, centre, state, self.model.glance_head(feature)) if self.glance_exit else (feature, centre, state)
        )

    def signature(self) -> Signature:
        """The tensors that the exported file must have."""
        return _frame_signature(self.component, self.model, look_ahead=self.look_ahead, glance_exit=self.glance_exit)


class FocusGraph(nn.Module):
    """One focus per row, each row at a step of its own: the focus network, the classifier and that step's head."""

    component: Literal["focus"] = "focus"

    def __init__(self, model: AdaFocus, cut: Cut = cut_patches, *, look_ahead: bool = False) -> None:
        super().__init__()
        self.model = model
        self.look_ahead = look_ahead
        self.pixels = PixelNorm()
        self.cut = cut

    def forward(
        self, frames: Tensor, patch_centre: Tensor, glance_feature: Tensor, pooled_state: Tensor, step: Tensor
    ) -> tuple[Tensor, Tensor]:
        """uint8 [B, H, W, 3], [B, 2], [B, G], [B, F], int64 [B] -> logits [B, C], next pooled state [B, F].

        Looking ahead, the state may be [V, F], as the glance's.
        """
        patches = self.pixels(self.cut(frames, patch_centre, self.model.config.patch_size))
        if self.look_ahead:
            return self.model.focus_patch_steps(patches, glance_feature, pooled_state, step)
        return self.model.focus_patch_step(patches, glance_feature, pooled_state, step)

    def signature(self) -> Signature:
        """The tensors that the exported file must have."""
        return _frame_signature(self.component, self.model, look_ahead=self.look_ahead)


class ClipGlanceGraph(nn.Module):
    """The clip model's glance over all its frames; the glance feature is its share of the logits."""

    component: Literal["glance"] = "glance"

    def __init__(self, model: AdaFocusTSM, *, by_rows: bool = False, glance_exit: bool = False) -> None:
        super().__init__()
        self.model = model
        self.glance_exit = glance_exit
        self.images = _normaliser(model.config.frame_size, by_rows=by_rows)

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        """uint8 [B, 8, H, W, 3] -> glance feature [B, C], patch centre [B, 2].

        With an exit after the glance, the auxiliary head's logits [B, C] follow.
        """
        config = self.model.config
        images: Tensor = self.images(frames.flatten(0, 1))
        output = self.model.glance_part(by_clip(images, config.glance_frames))
        found = output.logits, output.patch_centre
        return (*found, output.auxiliary_logits) if self.glance_exit else found

    def signature(self) -> Signature:
        """The tensors that the exported file must have."""
        config = self.model.config
        frames, size, classes = config.glance_frames, config.frame_size, config.num_classes
        return clip_signature(self.component, frames, size, classes, glance_exit=self.glance_exit)


class ClipFocusGraph(nn.Module):
    """The clip model's focus: one patch centre for all frames, and the sum of both shares of the logits."""

    component: Literal["focus"] = "focus"

    def __init__(self, model: AdaFocusTSM, cut: Cut = cut_patches) -> None:
        super().__init__()
        self.model = model
        self.pixels = PixelNorm()
        self.cut = cut

    def forward(self, frames: Tensor, patch_centre: Tensor, glance_feature: Tensor) -> tuple[Tensor]:
        """uint8 [B, 12, H, W, 3], [B, 2], [B, C] -> logits [B, C]."""
        config = self.model.config
        centres = patch_centre[:, None].expand(-1, config.focus_frames, -1).flatten(0, 1)  # (B·12, 2)
        patches: Tensor = self.pixels(self.cut(frames.flatten(0, 1), centres, config.patch_size))
        output = self.model.focus_patches(by_clip(patches, config.focus_frames))
        return (glance_feature + output.logits,)

    def signature(self) -> Signature:
        """The tensors that the exported file must have."""
        config = self.model.config
        return clip_signature(self.component, config.focus_frames, config.frame_size, config.num_classes)


DEVICE_PRECISIONS: frozenset[Precision] = frozenset({"fp16"})
"""Precisions in which only GPUs serve."""

ServedGraph = GlanceGraph | FocusGraph | ClipGlanceGraph | ClipFocusGraph


def served_graphs(
    model: VideoModel,
    cut: Cut = cut_patches,
    *,
    by_rows: bool = False,
    look_ahead: bool = True,
    glance_exit: bool = False,
) -> tuple[ServedGraph, ServedGraph]:
    """The glance and the focus graph of a model, in evaluation mode.

    Args:
        model: its weights are used, not copied.
        cut: how the focus cuts its patches.
        by_rows: normalise frames with `RowNorm`.
        look_ahead: let a batch hold several steps of one video, which needs a loop of variable length. A clip model has
            one step only.
        glance_exit: let the glance graph give the logits of its auxiliary head.
    """
    if isinstance(model, AdaFocus):
        glance = GlanceGraph(model, by_rows=by_rows, look_ahead=look_ahead, glance_exit=glance_exit)
        return glance.eval(), FocusGraph(model, cut, look_ahead=look_ahead).eval()
    if isinstance(model, AdaFocusTSM):
        return ClipGlanceGraph(model, by_rows=by_rows, glance_exit=glance_exit).eval(), ClipFocusGraph(
            model, cut
        ).eval()
    raise TypeError(f"there are no graphs for {type(model).__name__}")


def graphs_in(model: VideoModel, precision: Precision, *, glance_exit: bool = False) -> tuple[ServedGraph, ServedGraph]:
    """The graphs of a model that are written as ONNX in a precision.

    fp16 is for GPUs, whose runtimes replay a graph of kernels only if it has no loop: these graphs do not look ahead.
    """
    return served_graphs(model, look_ahead=precision not in DEVICE_PRECISIONS, glance_exit=glance_exit)


def example_inputs(signature: Signature) -> tuple[Tensor, ...]:
    """Zero tensors that a graph of that signature takes."""
    return tuple(_example(spec) for spec in signature.inputs)


def _example(spec: TensorSpec) -> Tensor:
    shape = [EXAMPLE_SIZES[size] if isinstance(size, str) else size for size in spec.shape]
    return torch.zeros(shape, dtype=_TORCH_TYPES[spec.dtype])


def _frame_signature(
    component: Literal["glance", "focus"], model: AdaFocus, *, look_ahead: bool, glance_exit: bool = False
) -> Signature:
    policy_state, pooled_state = model.initial_states(1)
    widths = Widths(model.glance.channels, policy_state.shape[1], pooled_state.shape[1])
    config = model.config
    size, classes = config.frame_size, config.num_classes
    return frame_signature(component, size, classes, widths, look_ahead=look_ahead, glance_exit=glance_exit)

"""The configuration of a model: all its sizes in one frozen, validated value.

A configuration is plain data (``to_dict`` and ``from_dict`` are exact inverses), travels inside our checkpoints, and is
the only argument of ``model.build``. ``PUBLISHED`` holds one entry per model in the tables of arXiv 2112.14238.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from typing import Any, Literal, NamedTuple, get_args

Kind = Literal["frame", "clip"]
FrameOrder = Literal["coarse_to_fine", "sequential"]
BackboneName = Literal["mobilenet_v2", "efficientnet_lite0", "resnet50", "resnet18"]
PolicyName = Literal["recurrent", "heatmap"]
Shrinking = Literal["bilinear", "area"]
Pooling = Literal["max", "mean"]

DEFAULT_DEPTH: Mapping[str, tuple[int, ...]] = {
    "mobilenet_v2": (1, 2, 3, 4, 3, 3, 1),
    "efficientnet_lite0": (1, 2, 2, 3, 3, 4, 1),
    "resnet50": (3, 4, 6, 3),
    "resnet18": (2, 2, 2, 2),
}
"""Blocks per stage of each backbone, as its own paper gives them."""

TOTAL_STRIDE = 32
"""Every backbone of the full number of stages shrinks its input by this factor."""


def _choice(name: str, value: str, permitted: tuple[str, ...]) -> None:
    if value not in permitted:
        raise ValueError(f"{name} is {value!r}; permitted: {', '.join(permitted)}")


def _whole(name: str, value: int, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; permitted: a whole number from {low} to {high}")


def _real(name: str, value: float, low: float, high: float) -> None:
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; permitted: a number from {low} to {high}")


def _row(name: str, value: tuple[int, ...], length: tuple[int, int], high: int) -> None:
    """A tuple of so many whole numbers from 1 on."""
    fewest, most = length
    if not isinstance(value, tuple) or not fewest <= len(value) <= most:
        raise ValueError(f"{name} is {value!r}; permitted: {fewest} to {most} numbers")
    for item in value:
        _whole(name, item, 1, high)


def _checked(what: str, known: Iterable[Field[Any]], data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data as keyword arguments: unknown and missing keys refused, lists turned into tuples."""
    required = {item.name: item.default is MISSING and item.default_factory is MISSING for item in known}
    for key in data:
        if key not in required:
            raise ValueError(f"unknown {what} key {key!r}; known: {', '.join(required)}")
    for key, needed in required.items():
        if needed and key not in data:
            raise ValueError(f"{what} key {key!r} is missing")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}


@dataclass(frozen=True)
class BackboneConfig:
    """One of the two convolutional networks.

    Attributes:
        name: ``mobilenet_v2``, ``efficientnet_lite0``, ``resnet50`` (bottleneck blocks) or ``resnet18`` (basic blocks).
        width: channels are multiplied by this and rounded to multiples of 8; 1.0 is the published network.
        depth: blocks per stage; None is the published depth. A ResNet may have 2 to 4 stages, the others 3 to 7: with
            fewer than all of them, a network ends with its last stage and its map is finer.
        input_size: side in pixels that the frame, or for a frame model's focus the patch, is resized to; None takes it
            as it is. A patch may only be enlarged: networks trained on large things see little in small ones.
        shrink: glance only, how the frame is resized: ``bilinear`` as published, which skips pixels when it shrinks by
            more than half; ``area`` averages squares of pixels, so that nothing is skipped, and needs a whole factor.
    """

    name: BackboneName
    width: float = 1.0
    depth: tuple[int, ...] | None = None
    input_size: int | None = None
    shrink: Shrinking = "bilinear"

    def __post_init__(self) -> None:
        _choice("backbone name", self.name, get_args(BackboneName))
        _choice("backbone shrink", self.shrink, get_args(Shrinking))
        _real("backbone width", self.width, 0.05, 4.0)
        if self.depth is not None:
            most = len(DEFAULT_DEPTH[self.name])
            fewest = 2 if self.name.startswith("resnet") else 3
            _row(f"{self.name} depth", self.depth, (fewest, most), 64)
        if self.input_size is not None:
            _whole("backbone input_size", self.input_size, 8, 4096)

    @property
    def stages(self) -> tuple[int, ...]:
        """Blocks per stage."""
        return DEFAULT_DEPTH[self.name] if self.depth is None else self.depth

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BackboneConfig:
        """Parse plain data.

        Raises:
            ValueError: an unknown or missing key, or a value out of range; both are named.
        """
        return cls(**_checked("backbone", fields(cls), data))


class FrameSampling(NamedTuple):
    """Frames that a model samples from a video.

    Attributes:
        frames: steps of a frame model, glance frames of a clip model.
        order: in which they are visited.
        focus_frames: of a clip model, sampled besides; None for a frame model.
    """

    frames: int
    order: FrameOrder
    focus_frames: int | None = None

    @property
    def per_step(self) -> int:
        """Frames that one step takes."""
        return 1 if self.focus_frames is None else self.frames + self.focus_frames


@dataclass(frozen=True)
class ModelConfig:
    """All sizes of a model; the defaults are those of the paper's ActivityNet model.

    Attributes:
        kind: ``frame`` sees one frame a step; ``clip`` (the TSM variant) sees all its frames in one step.
        num_classes: C.
        steps: T, frames visited; a clip model has 1.
        frame_order: the order in which a frame model visits them.
        frame_size: side of the frame, pixels. patch_size: side of the focus patch, in pixels of that frame.
        policy: of a frame model: ``recurrent`` as published, or ``heatmap``, which scores the cells of the glance's map
            (`model.heatmap`) and has no recurrence.
        policy_channels: channels of the policy's 1×1 convolution. policy_hidden: width of its recurrence.
        mlp_width: F, width of the classifier's pooled feature.
        pooling: of a frame model's features over the frames seen so far: ``max`` as published, or ``mean``, for which a
            frame that is surest of a wrong answer counts as much as any other.
        dropout: before every classification head.
        glance_frames, focus_frames, clip_policy_widths, shift_fraction: clip models only; ``1 / shift_fraction`` of the
            channels is shifted each way in time.
    """

    num_classes: int
    kind: Kind = "frame"
    steps: int = 16
    frame_order: FrameOrder = "coarse_to_fine"
    frame_size: int = 224
    patch_size: int = 128
    glance: BackboneConfig = field(default_factory=lambda: BackboneConfig("mobilenet_v2"))
    focus: BackboneConfig = field(default_factory=lambda: BackboneConfig("resnet50"))
    policy: PolicyName = "recurrent"
    policy_channels: int = 64
    policy_hidden: int = 2048
    mlp_width: int = 4096
    pooling: Pooling = "max"
    dropout: float = 0.2
    glance_frames: int = 8
    focus_frames: int = 12
    clip_policy_widths: tuple[int, ...] = (1024, 512)
    shift_fraction: int = 8

    def __post_init__(self) -> None:
        _choice("kind", self.kind, get_args(Kind))
        _choice("frame_order", self.frame_order, get_args(FrameOrder))
        _choice("policy", self.policy, get_args(PolicyName) if self.kind == "frame" else ("recurrent",))
        _choice("pooling", self.pooling, get_args(Pooling) if self.kind == "frame" else ("max",))
        _whole("num_classes", self.num_classes, 2, 100_000)
        _whole("steps", self.steps, 1, 1024 if self.kind == "frame" else 1)
        _whole("frame_size", self.frame_size, TOTAL_STRIDE, 4096)
        _whole("patch_size", self.patch_size, TOTAL_STRIDE, self.frame_size)
        for name in ("policy_channels", "policy_hidden", "mlp_width"):
            _whole(name, getattr(self, name), 1, 65_536)
        _real("dropout", self.dropout, 0.0, 0.99)
        for name in ("glance_frames", "focus_frames"):
            _whole(name, getattr(self, name), 1, 256)
        _row("clip_policy_widths", self.clip_policy_widths, (1, 8), 65_536)
        _whole("shift_fraction", self.shift_fraction, 2, 1024)
        if self.focus_size < self.patch_size or (self.kind == "clip" and self.focus_size != self.patch_size):
            raise ValueError(
                f"focus input_size is {self.focus_size}; permitted: none, or for a frame model patch_size "
                f"{self.patch_size} and more, as a patch is never shrunk"
            )
        if self.glance.shrink == "area" and self.frame_size % self.glance_size:
            raise ValueError(
                f"glance input_size is {self.glance_size}; permitted with shrink 'area': a divisor of frame_size "
                f"{self.frame_size}"
            )

    @property
    def glance_size(self) -> int:
        """Side in pixels of what the glance network sees."""
        return self.frame_size if self.glance.input_size is None else self.glance.input_size

    @property
    def focus_size(self) -> int:
        """Side in pixels of what the focus network sees."""
        return self.patch_size if self.focus.input_size is None else self.focus.input_size

    @property
    def learns_through_auxiliary_heads(self) -> bool:
        """True if the answer's heads read detached features, so that the networks need the auxiliary losses."""
        return self.kind == "clip"

    @property
    def sampling(self) -> FrameSampling:
        """The frames of a video that the model sees."""
        if self.kind == "clip":
            return FrameSampling(self.glance_frames, "sequential", self.focus_frames)
        return FrameSampling(self.steps, self.frame_order)

    def to_dict(self) -> dict[str, Any]:
        """Plain data (numbers, strings, lists, dicts) that ``from_dict`` turns back into an equal value."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelConfig:
        """Parse plain data.

        Raises:
            ValueError: an unknown or missing key, or a value out of range; both are named.
        """
        parsed = dict(data)
        for name in ("glance", "focus"):
            if isinstance(parsed.get(name), Mapping):
                parsed[name] = BackboneConfig.from_dict(parsed[name])
            elif name in parsed and not isinstance(parsed[name], BackboneConfig):
                raise ValueError(f"{name} is {parsed[name]!r}; permitted: a table with name, width, depth, input_size")
        return cls(**_checked("model", fields(cls), parsed))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def _frame_rows() -> dict[str, ModelConfig]:
    glances = {"mbv2": BackboneConfig("mobilenet_v2"), "res50": BackboneConfig("resnet50", input_size=96)}
    rows = {}
    for data, classes, patches in (("actnet", 200, (96, 128, 160)), ("fcvid", 239, (128,)), ("minik", 200, (128,))):
        for short, glance in glances.items():
            for patch in patches:
                rows[f"{data}_{short}_p{patch}"] = ModelConfig(classes, patch_size=patch, glance=glance)
    return rows


def _clip_rows() -> dict[str, ModelConfig]:
    rows = {}
    for data, classes, patches in (
        ("sthv1", 174, (128, 144, 160, 176)),
        ("sthv2", 174, (128, 144, 160, 176)),
        ("jester", 27, (128, 176)),
    ):
        for patch in patches:
            rows[f"{data}_tsm_p{patch}"] = ModelConfig(classes, kind="clip", steps=1, patch_size=patch, dropout=0.5)
    return rows


PUBLISHED: Mapping[str, ModelConfig] = {**_frame_rows(), **_clip_rows()}
"""The published models by name: data set, glance network (or ``tsm``), patch size."""

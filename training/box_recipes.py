"""Tables of a recipe that are about boxes: what boxes teach in one stage, and training in stages from them."""

from __future__ import annotations

from dataclasses import dataclass

from adafocus.training.errors import RecipeError
from adafocus.training.recipe_range import within


@dataclass(frozen=True)
class BoxRecipe:
    """What boxes, where the data have them, teach a heatmap policy; as published, nothing.

    Attributes:
        weight: of the cross-entropy of the policy's scores against the place of the box; 0 is off.
        explore: the second patches of every batch (``remedies.diversity``) lie near the box instead of anywhere.
        spread: standard deviation of their distance from it, as a share of the patch's side.
    """

    weight: float = 0.0
    explore: bool = False
    spread: float = 0.15

    def __post_init__(self) -> None:
        within("boxes.weight", self.weight, 0, 1000)
        within("boxes.spread", self.spread, 0, 10)
        if not isinstance(self.explore, bool):
            raise RecipeError(f"boxes.explore is {self.explore!r}; permitted: true or false")

    @property
    def used(self) -> bool:
        """Whether boxes are read."""
        return self.explore or self.weight > 0


@dataclass(frozen=True)
class StageRecipe:
    """Training in stages from single frames and boxes (`training.staged`), instead of all parts at once.

    Attributes:
        find_steps: steps of 8 whole frames, in which glance and policy learn to find the thing; 0 trains in one stage.
        find_lr: rate of the glance at the top of the cosine.
        recognise_steps: steps of 32 patches around the box, in which the focus learns what it shows.
        recognise_lr: rate of the focus.
        fixed_blocks: blocks of both networks that stay as they are, after the stem.
        kept_frames: the focus learns from all frames that are kept of a clip (``data.candidates`` of each segment)
            instead of from every second one that is served.
        views: of each of these frames, random squares around the thing.
        off_centre: standard deviation of the distance of these squares from the thing, as a share of their side.
        grey: the focus sees patches without colours: what its first layer expects of each colour is averaged, so that
            colours tell it nothing, in serving as in training.
        empty: share of each batch of the focus that are squares without the thing, of which it learns to answer all
            classes alike.
    """

    find_steps: int = 0
    find_lr: float = 5e-4
    recognise_steps: int = 0
    recognise_lr: float = 1e-3
    fixed_blocks: int = 6
    kept_frames: bool = False
    views: int = 6
    off_centre: float = 0.15
    grey: bool = False
    empty: float = 0.0

    def __post_init__(self) -> None:
        for name in ("find_steps", "recognise_steps"):
            within(f"stages.{name}", getattr(self, name), 0, 10_000_000)
        for name in ("find_lr", "recognise_lr"):
            within(f"stages.{name}", getattr(self, name), 1e-9, 100)
        within("stages.fixed_blocks", self.fixed_blocks, 0, 64)
        within("stages.views", self.views, 1, 1000)
        within("stages.off_centre", self.off_centre, 0, 1)
        within("stages.empty", self.empty, 0, 0.9)
        for name in ("kept_frames", "grey"):
            if not isinstance(getattr(self, name), bool):
                raise RecipeError(f"stages.{name} is {getattr(self, name)!r}; permitted: true or false")
        if bool(self.find_steps) != bool(self.recognise_steps):
            raise RecipeError(
                f"stages.find_steps is {self.find_steps} and stages.recognise_steps {self.recognise_steps}; permitted: "
                "both 0, or both 1 and more"
            )

    @property
    def used(self) -> bool:
        """Whether the model is trained in stages."""
        return self.find_steps > 0

"""Pretrains the networks for the synthetic set, in place of the ImageNet weights of the paper's networks.

The focus learns directions of hatching on patches around the orange plate; the glance learns which colours of plates a
shrunk frame contains. A glance without a focus learns the same as the focus, on the same patches, at the resolution of
its frames. All training uses single frames that are in no clip of the set, and no network learns positions: that is
left to the study. From scratch, a focus on patches that rarely show the hatching learns nothing for a long time,
however they are chosen, and a glance gets no signal about plates.

With ``--task spacing`` the focus does not learn directions either: it learns how far apart the lines of a plate are, or
that there are none, on plates of every direction. So it starts with features for fine lines, and without the classes.

    python -m benchmarks.evidence.pretrain FILE.pt [--task spacing] [--config FILE.toml] [--steps 400]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adafocus.model.backbones import build_backbone, spatial_mean
from adafocus.model.config import BackboneConfig
from adafocus.model.patch import crop_patches
from adafocus.training.data.augment import normalise
from adafocus.training.recipe_files import load_recipe
from benchmarks.evidence import hatching
from benchmarks.evidence.arms import ARMS
from benchmarks.evidence.study import arm_recipe

CONFIG = Path(__file__).with_name("hatching.toml")
SEED = 9
CLIPS = 1200
BATCH = 32
LEARNING_RATE = 0.05
OFF_CENTRE = 0.3
"""Share of a patch by which the plate may lie beside its middle."""

SPACINGS = 3
"""So many intervals of distances between lines; a plate without lines is one more class."""


class Frames(NamedTuple):
    """Single frames for training.

    Attributes:
        pixels: uint8 [N, SIDE, SIDE, 3].
        targets: classes [N], or which colours are present [N, colours].
        middles: of the orange plates where they matter [N, 2], pixels.
    """

    pixels: npt.NDArray[np.uint8]
    targets: Tensor
    middles: Tensor


def with_hatching(random: np.random.Generator) -> Frames:
    """Frames in which the orange plate is hatched; its class is the target."""
    pixels, labels, middles = [], [], []
    for number in range(CLIPS):
        label = number % hatching.CLASSES
        things = hatching.plates(label, random)
        frame = int(random.choice(np.flatnonzero(things[-1].shown)))
        pixels.extend(hatching.drawn(things, random, [frame]))
        labels.append(label)
        middles.append(np.array(things[-1].corner(frame)) + hatching.PLATE / 2)
    return Frames(np.stack(pixels), torch.tensor(labels), torch.from_numpy(np.stack(middles)).float())


def with_spacing(random: np.random.Generator) -> Frames:
    """Frames with an orange plate whose lines have any direction; their distance, or their absence, is the target."""
    pixels, targets, middles = [], [], []
    edges = np.linspace(*hatching.APART, SPACINGS + 1)
    for number in range(CLIPS):
        target = number % (SPACINGS + 1)
        *others, orange = hatching.plates(0, random)
        shown = np.full_like(orange.shown, target < SPACINGS)
        apart = random.uniform(*edges[target : target + 2]) if target < SPACINGS else 1.0
        own = hatching.lines(random.uniform(0, np.pi), apart, random.uniform(0, 2 * np.pi))
        things = [*others, replace(orange, lines=own, shown=shown)]
        frame = int(random.integers(hatching.FRAMES))
        pixels.extend(hatching.drawn(things, random, [frame]))
        targets.append(target)
        middles.append(np.array(orange.corner(frame)) + hatching.PLATE / 2)
    return Frames(np.stack(pixels), torch.tensor(targets), torch.from_numpy(np.stack(middles)).float())


TASKS = {"direction": with_hatching, "spacing": with_spacing}


def with_colours(random: np.random.Generator) -> Frames:
    """Frames with plates of some of the colours, hatched in any direction or not; which colours is the target."""
    colours = [hatching.ORANGE, *hatching.OTHERS]
    there = random.random((CLIPS, len(colours))) < 0.5
    pixels: list[npt.NDArray[np.uint8]] = []
    for row in there:
        things = [replace(hatching.plates(0, random)[0], colour=colours[index]) for index in np.flatnonzero(row)]
        pixels.extend(hatching.drawn(things, random, [int(random.integers(hatching.FRAMES))]))
    return Frames(np.stack(pixels), torch.from_numpy(there).float(), torch.zeros(CLIPS, 2))


Look = Callable[[Tensor, Tensor], Tensor]
"""From frames and middles of plates to what a network sees."""


def pretrain(config: BackboneConfig, examples: Frames, look: Look, steps: int) -> dict[str, Tensor]:
    """Train one network and return its weights."""
    torch.manual_seed(0)
    random = np.random.default_rng(SEED)
    network = build_backbone(config)
    several = examples.targets.ndim == 2
    outputs = examples.targets.shape[1] if several else int(examples.targets.max()) + 1
    head = nn.Linear(network.channels, outputs)
    loss_of = F.binary_cross_entropy_with_logits if several else F.cross_entropy
    optimiser = torch.optim.SGD([*network.parameters(), *head.parameters()], LEARNING_RATE, 0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        rows = torch.from_numpy(random.integers(CLIPS, size=BATCH))
        batch = normalise(torch.from_numpy(examples.pixels[rows.numpy()]).permute(0, 3, 1, 2))
        logits = head(spatial_mean(network(look(batch, examples.middles[rows]))))
        loss = loss_of(logits, examples.targets[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}  loss {loss.item():.3f}", flush=True)
    return dict(network.state_dict())


def networks(steps: int, task: str, path: Path) -> dict[str, dict[str, Tensor]]:
    """Weights of the glance, of the focus, and of the glance without a focus, which sees a larger frame."""
    torch.set_num_threads(1)
    recipe, examples = load_recipe(str(path)), TASKS[task]
    config = recipe.model_config(hatching.CLASSES)
    alone = arm_recipe(ARMS["none"], recipe, hatching.CLASSES).model_config(hatching.CLASSES)
    random = np.random.default_rng(SEED)
    span = hatching.SIDE - config.patch_size

    def patch(batch: Tensor, middles: Tensor) -> Tensor:
        aside = torch.from_numpy(random.uniform(-OFF_CENTRE, OFF_CENTRE, tuple(middles.shape))).float()
        centres = ((middles + (aside - 0.5) * config.patch_size) / span).clamp(0, 1)
        return crop_patches(batch, centres, config.patch_size)

    def shrunk(batch: Tensor, size: int) -> Tensor:
        if config.glance.shrink == "area":
            return F.avg_pool2d(batch, batch.shape[-1] // size)
        return F.interpolate(batch, size=(size, size), mode="bilinear", align_corners=True)

    def shrunk_patch(batch: Tensor, middles: Tensor) -> Tensor:
        return shrunk(patch(batch, middles), round(config.patch_size * alone.glance_size / hatching.SIDE))

    def glance(batch: Tensor, _: Tensor) -> Tensor:
        return shrunk(batch, config.glance_size)

    return {
        "focus": pretrain(config.focus, examples(random), patch, steps),
        "alone": pretrain(alone.glance, examples(random), shrunk_patch, steps),
        "glance": pretrain(config.glance, with_colours(random), glance, steps),
    }


def main() -> None:
    """Write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--task", choices=list(TASKS), default="direction", help="what the focus learns to read")
    parser.add_argument("--config", type=Path, default=CONFIG, help="recipe of the networks")
    options = parser.parse_args()
    torch.save(networks(options.steps, options.task, options.config), options.out)


if __name__ == "__main__":
    main()

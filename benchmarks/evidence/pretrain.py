"""What ImageNet is to the paper's networks, for the made set: a focus network that can read before it knows where.

It learns the glyphs on patches cut around the orange plate of single frames, of no clip in the set. What is left to
learn is where to look. From scratch, a focus on patches that rarely show the glyph learns nothing for a long time,
whatever chooses them.

    python -m benchmarks.evidence.pretrain FILE.pt [--steps 400]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.evidence import glyphs
from model.backbones import build_backbone, spatial_mean
from model.patch import crop_patches
from training.augment import normalise
from training.recipe import load_recipe

CONFIG = Path(__file__).with_name("glyphs.toml")
SEED = 9
CLIPS = 1200
BATCH = 32
LEARNING_RATE = 0.05
OFF_CENTRE = 0.3
"""Share of a patch by which the plate may lie beside its middle."""


def frames(random: np.random.Generator) -> tuple[npt.NDArray[np.uint8], Tensor, Tensor]:
    """Single frames that show a glyph: pixels [N, SIDE, SIDE, 3], classes [N], plates' middles [N, 2] in pixels."""
    letters = glyphs.alphabet()
    pixels, labels, middles = [], [], []
    for number in range(CLIPS):
        label = number % glyphs.CLASSES
        things = glyphs.plates(label, random, letters)
        frame = int(random.choice(np.flatnonzero(things[-1].shown)))
        pixels.extend(glyphs.drawn(things, random, [frame]))
        labels.append(label)
        middles.append(np.array(things[-1].corner(frame)) + glyphs.PLATE / 2)
    return np.stack(pixels), torch.tensor(labels), torch.from_numpy(np.stack(middles)).float()


def pretrain(steps: int) -> dict[str, Tensor]:
    """Weights of the focus network."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    config = load_recipe(str(CONFIG)).model_config(glyphs.CLASSES)
    random = np.random.default_rng(SEED)
    pixels, labels, middles = frames(random)
    network = build_backbone(config.focus)
    head = nn.Linear(network.channels, glyphs.CLASSES)
    learning = [*network.parameters(), *head.parameters()]
    optimiser = torch.optim.SGD(learning, lr=LEARNING_RATE, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    room = glyphs.SIDE - config.patch_size
    for step in range(steps):
        rows = torch.from_numpy(random.integers(CLIPS, size=BATCH))
        aside = torch.from_numpy(random.uniform(-OFF_CENTRE, OFF_CENTRE, (BATCH, 2))).float()
        centres = ((middles[rows] + (aside - 0.5) * config.patch_size) / room).clamp(0, 1)
        batch = normalise(torch.from_numpy(pixels[rows.numpy()]).permute(0, 3, 1, 2))
        logits = head(spatial_mean(network(crop_patches(batch, centres, config.patch_size))))
        loss = F.cross_entropy(logits, labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}  loss {loss.item():.3f}", flush=True)
    return dict(network.state_dict())


def main() -> None:
    """Write the weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args()
    torch.save(pretrain(options.steps), options.out)


if __name__ == "__main__":
    main()

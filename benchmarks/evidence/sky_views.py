"""Makes what the arms of the study of ``sky`` learn from and are judged on: views of frames, as maps of fixed layers.

    python -m benchmarks.evidence.sky_views DATA OUT --weights IMAGENET [--cache FOLDER]

Each arm sees the same frames of the same clips with the same augmentation; they differ in what is cut out. All layers
up to a stride of 8 stay as ImageNet left them, so their maps are made once, in bf16 where the processor has it, and
every fold and seed learns from the same ones. Whole frames are shrunk by averaging, so that no arm reads aliasing.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adafocus.model.backbones import InvertedResidualNetwork, build_backbone
from adafocus.model.config import BackboneConfig
from adafocus.model.imagenet import load_backbone_imagenet
from adafocus.training.data.boxes import clip_points, read_boxes
from adafocus.training.data.crop_plan import training_plan
from adafocus.training.data.crops import decode_all
from adafocus.training.data.manifests import list_clips
from adafocus.training.data.pictures import picture_heights
from adafocus.training.optimise.objective import fastest_precision
from adafocus.training.recipe import Recipe
from adafocus.training.recipe_files import load_recipe
from adafocus.training.staged.cuts import WHOLE, Cut, look_at
from adafocus.training.staged.fixed_start import FixedStart, forget_colours
from adafocus.training.staged.train import EMPTY, FIND, RECOGNISE, cuts_of

FIXED_BLOCKS = 6


def cuts(recipe: Recipe) -> dict[str, Cut]:
    """Return the arms' cuts by name. The glance of the method sees ``whole256``, arms without a patch the rest."""
    of_method = cuts_of(recipe.model_config(2), recipe.stages)
    empty = {EMPTY: of_method[EMPTY]} if EMPTY in of_method else {}
    return empty | {
        "box": of_method[RECOGNISE],
        "middle": replace(of_method[RECOGNISE], at_the_thing=False),
        "whole256": of_method[FIND],
        "seen128": Cut(128, ranges=WHOLE, views=2),
        "seen256": Cut(256, ranges=WHOLE, views=2),
        "seen512": Cut(512, ranges=WHOLE),
    }


def fixed_start(network: BackboneConfig, weights: Path, *, grey: bool = False) -> FixedStart:
    """Return a network with ImageNet weights, its first layers fixed, that sees colours unless it is ``grey``."""
    backbone = build_backbone(network)
    assert isinstance(backbone, InvertedResidualNetwork)  # noqa: S101 # the recipe's are
    load_backbone_imagenet(backbone, weights)
    if grey:
        forget_colours(backbone)
    backbone.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs
    return FixedStart(backbone, FIXED_BLOCKS, fastest_precision(torch.device("cpu")))


def main() -> None:
    """Make the views of the arms that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, required=True, help="of MobileNetV2 for ImageNet")
    parser.add_argument("--cache", type=Path, help="folder of decoded frames")
    parser.add_argument("--config", default="sky", help="recipe: the name of a shipped one, or a .toml file")
    parser.add_argument("--only", nargs="*", help="names of the cuts to make")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    recipe = load_recipe(given.config)
    plan, data = training_plan(recipe), list_clips(given.data)
    if data.boxes is None:
        raise SystemExit(f"{given.data} has no boxes.npz, and the study of sky learns from boxes")
    crops = decode_all(data, plan, given.cache)
    points = clip_points(crops.data.clips, read_boxes(data.boxes), plan)
    network = replace(recipe.model_config(2).focus, input_size=None)
    focus = fixed_start(network, given.weights, grey=recipe.stages.grey)
    glance = fixed_start(network, given.weights)
    wanted = {
        name: (cut, glance if name == "whole256" else focus)
        for name, cut in cuts(recipe).items() if not given.only or name in given.only
    }  # fmt: skip
    kept = zip(crops.pixels, points, picture_heights(crops.data.clips, plan), strict=True)
    for name, seen in look_at(kept, plan.candidates, wanted, serving=True).items():
        np.save(given.out / f"{name}.learned.npy", np.concatenate(seen.learned))
        np.save(given.out / f"{name}.served.npy", np.stack(seen.served))
        np.savez(given.out / f"{name}.npz", clips=np.array(seen.clips), places=np.concatenate(seen.places))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

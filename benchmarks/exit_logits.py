"""Stores what a checkpoint says after each step of clips that it was not trained on, for `benchmarks.certified_sets`.

    python -m benchmarks.exit_logits DATA --checkpoint FILE --out NAME.npz [--split val] [--snap keyframe]

The file holds ``logits`` float32 [N, T, C], ``truth`` (int64 [N], or bool [N, C] where clips have several labels) and
``units``, the names of clips that belong together.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

import numpy as np
import torch

from adafocus.training.data.groups import units_of
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.inference import load_trained, predict_clips
from adafocus.video.sampler import Snap


def main() -> None:
    """Predict and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split")
    parser.add_argument("--snap", choices=get_args(Snap), help="how frames are sampled; default: as trained")
    options = parser.parse_args()
    torch.set_num_threads(1)
    trained, data = load_trained(options.checkpoint).sampled_with(options.snap), list_clips(options.data, options.split)
    unseen = data.only(clip for clip in data.clips if not trained.has_learned_from(clip))
    found = predict_clips(trained, unseen)
    np.savez_compressed(
        options.out, logits=found.logits, truth=found.labels, units=np.array(units_of(found.clips.clips))
    )
    right = found.logits[:, -1].argmax(axis=1) == found.labels if found.labels.ndim == 1 else None
    print(f"{len(found.logits)} clips" + ("" if right is None else f", {right.mean():.3f} right after the last step"))


if __name__ == "__main__":
    main()

"""Measures what a video costs each arm of the study of ``sky`` in processor time, decoding included.

    python -m benchmarks.evidence.sky_times DATA [--clips N] [--write]

Each clip is decoded as served and answered by each arm in turn, on one thread, with torch in fp32 and with random
weights, which cost as much as trained ones. The figures are medians over clips of processor time, in milliseconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from adafocus.model import build
from adafocus.model.adafocus import AdaFocus
from adafocus.model.config import BackboneConfig
from adafocus.model.patch import crop_patches
from adafocus.model.tsm import build_shifted
from adafocus.training.data.augment import serving_batch
from adafocus.training.data.clips import Clip
from adafocus.training.data.crop_plan import serving_plan
from adafocus.training.data.crops import decode_clip
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe_files import load_recipe
from benchmarks.machine import write_results

AT_A_TIME = 2
"""Full frames that a network takes at a time. What it makes of eight does not fit in the cache: those take longer."""


def arms(model: AdaFocus) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return what each arm computes of frames [1, T, 3, S, S]."""
    config = model.config

    def enlarged(frames: Tensor) -> Tensor:
        patches = crop_patches(frames[0], torch.full((frames.shape[1], 2), 0.5), config.patch_size)
        return torch.nn.functional.interpolate(patches, size=(config.focus_size, config.focus_size), mode="bilinear")

    shifted = build_shifted(BackboneConfig(config.focus.name, config.focus.width), config.steps, config.shift_fraction)
    shifted.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs

    def whole(frames: Tensor, size: int) -> Tensor:
        return torch.nn.functional.avg_pool2d(frames[0], config.frame_size // size)

    return {
        "method": lambda frames: model(frames).step_logits,
        "middle": lambda frames: model.focus(enlarged(frames)),
        "glance128": lambda frames: model.focus(whole(frames, 128)),
        "glance256": lambda frames: model.focus(whole(frames, 256)),
        "tsm256": lambda frames: shifted(whole(frames, 256)),
        "full512": lambda frames: torch.cat([model.focus(some) for some in frames[0].split(AT_A_TIME)]),
        "full512at2": lambda frames: model.focus(frames[0, :AT_A_TIME]),
    }


def measure(model: AdaFocus, clips: Sequence[Clip]) -> list[dict[str, object]]:
    """Return the median milliseconds of decoding and of every arm's networks."""
    plan = serving_plan(load_recipe("sky"))
    taken: dict[str, list[float]] = {}
    for clip in clips:
        start = time.process_time()
        frames = serving_batch([decode_clip(clip, plan)])
        taken.setdefault("decoding", []).append(time.process_time() - start)
        for name, answer in arms(model).items():
            with torch.no_grad():
                start = time.process_time()
                answer(frames)
            taken.setdefault(name, []).append(time.process_time() - start)
    decoding = 1000 * median(taken.pop("decoding"))
    return [
        {"arm": name, "clips": len(clips), "decode_ms": round(decoding, 1), "network_ms": round(1000 * median(each), 1),
         "ms": round(decoding + 1000 * median(each), 1)}
        for name, each in taken.items()
    ]  # fmt: skip


def main() -> None:
    """Measure, print, and write with ``--write``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    data = list_clips(given.data)
    model = build(load_recipe("sky").model_config(len(data.labels)))
    assert isinstance(model, AdaFocus)  # noqa: S101 # the recipe's kind is frame
    model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stubs
    rows = measure(model, data.clips[:: max(1, len(data.clips) // given.clips)][: given.clips])
    for row in rows:
        print(*row.values(), sep="  ")
    if given.write:
        print(write_results("evidence-sky-times", "loaded-machine", rows))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

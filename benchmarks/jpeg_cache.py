"""Measures the cost of keeping training frames as JPEG: error, size and time, by quality and by subsampling of chroma.

    python -m benchmarks.jpeg_cache ../shared/datasets/tank_state --side 128 --clips 12
    python -m benchmarks.jpeg_cache ../shared/datasets/asl20_demo --side 360 --clips 12

Frames are decoded and cropped as for training. ``shrunk`` is the error that is left once the smallest crop of a
published recipe is shrunk to the model's size, which is what the model sees. Processor time, not wall time.
"""

from __future__ import annotations

import argparse
import io
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from adafocus.training.data.crop_plan import training_plan
from adafocus.training.data.crops import decode_clip
from adafocus.training.data.frame_store import Pixels
from adafocus.training.data.manifests import list_clips
from adafocus.training.recipe_files import load_recipe
from benchmarks.machine import Row, with_earlier, write_results

QUALITIES = (75, 85, 90, 95, 98)
SUBSAMPLING = {"4:4:4": 0, "4:2:0": 2}
SMALLEST_CROP = 0.66
MODEL_SHARE = 224 / 360
"""Side of the model's frame as a share of the square that its crops are cut from."""


def frames_of(data: Path, side: int, clips: int) -> Pixels:
    """Frames of a few clips spread over the data set: uint8 [N, side, side, 3]."""
    recipe = load_recipe("actnet_mbv2_p128")
    plan = replace(training_plan(recipe), resize=side, crop=side, steps=8, order=tuple(range(8)), first_frame=3)
    found = list_clips(data).clips
    chosen = [found[int(place)] for place in np.linspace(0, len(found) - 1, min(clips, len(found)))]
    return np.concatenate([decode_clip(clip, plan) for clip in chosen])


def shrunk(frames: Pixels) -> torch.Tensor:
    """What the model sees of the smallest crop."""
    side = frames.shape[1]
    crop = round(side * SMALLEST_CROP)
    cut = torch.from_numpy(frames[:, :crop, :crop]).permute(0, 3, 1, 2).float()
    return F.interpolate(cut, size=(round(side * MODEL_SHARE),) * 2, mode="bilinear", antialias=True)


def measure(frames: Pixels, quality: int, chroma: str) -> dict[str, object]:
    """Encode and decode all frames once."""
    start = time.process_time()
    coded = []
    for frame in frames:
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=quality, subsampling=SUBSAMPLING[chroma])
        coded.append(buffer.getvalue())
    encoded = time.process_time()
    back = np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in coded])
    decoded = time.process_time()
    off = back.astype(np.float64) - frames
    return {
        "bytes_per_pixel": round(sum(map(len, coded)) / frames[..., 0].size, 3),
        "mean_error": round(float(np.abs(off).mean()), 2),
        "mean_error_shrunk": round(float((shrunk(back) - shrunk(frames)).abs().mean()), 2),
        "psnr_db": round(float(10 * np.log10(255**2 / np.mean(off**2))), 1),
        "encode_ms": round((encoded - start) / len(frames) * 1e3, 2),
        "decode_ms": round((decoded - encoded) / len(frames) * 1e3, 2),
    }


def main() -> None:
    """Measure, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--clips", type=int, default=12)
    options = parser.parse_args()
    frames = frames_of(options.data, options.side, options.clips)
    rows: list[Row] = [
        {"data": options.data.name, "side": options.side, "frames": len(frames), "chroma": chroma, "quality": quality}
        | measure(frames, quality, chroma)
        for chroma in SUBSAMPLING
        for quality in QUALITIES
    ]
    merged = with_earlier("jpeg-cache", rows, ("data", "side", "chroma", "quality"))
    print(write_results("jpeg-cache", "all", merged))


if __name__ == "__main__":
    main()

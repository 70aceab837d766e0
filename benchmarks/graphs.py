"""Compares ways to build the exported graphs: to cut a patch, to apply a step's head, and the whole graphs.

Uses the weights of the parity fixtures (actnet_mbv2_p128). All variants of a comparison take turns, so that other load
on the machine affects each of them. The best time is that of an idle machine, the median that of the machine in use.

    python -m benchmarks.graphs [--threads 2] [--rounds 30] [--without-graphs]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from adafocus.bundle.manifest import TensorSpec
from adafocus.bundle.onnx_runtime import ort
from adafocus.bundle.signature import BATCH, Signature
from adafocus.export.graphs import PixelNorm, cut_patches, served_graphs
from adafocus.export.to_onnx import to_onnx
from adafocus.model.classifier import StepHeads
from adafocus.model.patch import crop_patches
from benchmarks.machine import write_results
from tests.parity import authors

CROP, PATCH, STEPS, CLASSES, WIDTH = 224, 128, 16, 200, 4096
BATCHES = (1, 4, 8)


class Patch(nn.Module):
    """Turns uint8 frames and centres into normalised patches; a subclass defines how they are cut."""

    component = "focus"

    def __init__(self) -> None:
        super().__init__()
        self.pixels = PixelNorm()

    def forward(self, frames: Tensor, patch_centre: Tensor) -> tuple[Tensor]:
        """[B, 224, 224, 3], [B, 2] -> [B, 3, 128, 128]."""
        return (self.pixels(self.cut(frames, patch_centre)),)

    def cut(self, frames: Tensor, centre: Tensor) -> Tensor:
        """As exported: whole rows and columns."""
        return cut_patches(frames, centre, PATCH)

    def signature(self) -> Signature:
        """For the exporter."""
        return Signature(
            (_spec("frames", "uint8", CROP, CROP, 3), _spec("patch_centre", "float32", 2)),
            (_spec("patches", "float32", 3, PATCH, PATCH),),
        )


class GridPatch(Patch):
    """Cuts patches as in the paper."""

    def cut(self, frames: Tensor, centre: Tensor) -> Tensor:
        """Affine grid and grid sampling."""
        return crop_patches(frames.permute(0, 3, 1, 2).float(), centre, PATCH)


class PixelPatch(Patch):
    """A gather of each pixel."""

    def cut(self, frames: Tensor, centre: Tensor) -> Tensor:
        """Gather (P+1)² pixels and interpolate."""
        corner = centre * (CROP - PATCH)
        first = corner.floor()
        lines = (first.long()[:, :, None] + torch.arange(PATCH + 1)).clamp(max=CROP - 1)  # (B, 2, P + 1)
        rows = torch.arange(frames.shape[0])[:, None] * CROP + lines[:, 0]
        places = (rows * CROP)[:, :, None] + lines[:, 1, None, :]
        window = frames.reshape(-1, 3).index_select(0, places.flatten())
        window = window.reshape(-1, PATCH + 1, PATCH + 1, 3).permute(0, 3, 1, 2).float()
        y, x = (corner - first)[:, :, None, None, None].unbind(1)
        down = window[:, :, :-1] + (window[:, :, 1:] - window[:, :, :-1]) * y
        return down[..., :-1] + (down[..., 1:] - down[..., :-1]) * x


class MatMulPatch(Patch):
    """Interpolation weights as two matrices."""

    def cut(self, frames: Tensor, centre: Tensor) -> Tensor:
        """Two products."""
        places = (centre * (CROP - PATCH))[:, :, None] + torch.arange(PATCH)  # (B, 2, P)
        weights = (1 - (places[..., None] - torch.arange(CROP)).abs()).clamp(min=0)  # (B, 2, P, H)
        return weights[:, :1] @ frames.permute(0, 3, 1, 2).float() @ weights[:, 1:].transpose(2, 3)


class Head(nn.Module):
    """Applies the head of each row's step; a subclass defines how."""

    component = "focus"

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.heads = StepHeads(STEPS, WIDTH, CLASSES)

    def forward(self, pooled: Tensor, step: Tensor) -> tuple[Tensor]:
        """As exported: gather the weights of each row's head."""
        return (self.heads.at(pooled, step),)

    def signature(self) -> Signature:
        """For the exporter."""
        step = TensorSpec(name="step", dtype="int64", shape=(BATCH,))
        return Signature((_spec("pooled", "float32", WIDTH), step), (_spec("logits", "float32", CLASSES),))


class EveryHead(Head):
    """All heads, then a choice."""

    def forward(self, pooled: Tensor, step: Tensor) -> tuple[Tensor]:
        """[B, F], [B] -> [B, C]."""
        every = nn.functional.linear(pooled, self.heads.weight.flatten(0, 1), self.heads.bias.flatten())
        return (every.view(-1, STEPS, CLASSES)[torch.arange(pooled.shape[0]), step],)


def main() -> None:
    """Measure, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--without-graphs", action="store_true", help="only the comparisons, which need no weights")
    options = parser.parse_args()
    parts: dict[str, dict[str, bytes]] = {
        "patch": {"lines": _onnx(Patch()), "pixels": _onnx(PixelPatch()), "grid": _onnx(GridPatch())}
        | {"matmul": _onnx(MatMulPatch())},
        "head": {"gathered": _onnx(Head()), "every": _onnx(EveryHead())},
    }
    if not options.without_graphs:
        with tempfile.TemporaryDirectory() as folder:
            model = authors.load("act_mbv2_p128", authors.FRAME_CONFIGS["act_mbv2_p128"], Path(folder))
        parts["graph"] = {graph.component: to_onnx(graph) for graph in served_graphs(model)}
        del model
    rows = [row for part, variants in parts.items() for row in compare(part, variants, options.threads, options.rounds)]
    print(write_results("graphs", f"onnxruntime-cpu-{options.threads}t", rows))


def compare(part: str, variants: Mapping[str, bytes], threads: int, rounds: int) -> list[dict[str, object]]:
    """Milliseconds per row of each variant at each batch size, taking turns."""
    sessions = {name: _session(content, threads) for name, content in variants.items()}
    rows: list[dict[str, object]] = []
    for batch in BATCHES:
        seconds: dict[str, list[float]] = {name: [] for name in sessions}
        feeds = {name: _feeds(session, batch) for name, session in sessions.items()}
        for turn in range(rounds + 2):
            for name, session in sessions.items():
                begun = time.perf_counter()
                session.run(None, feeds[name])
                if turn >= 2:
                    seconds[name].append(time.perf_counter() - begun)
        for name, measured in seconds.items():
            best, median = (round(1e3 * value / batch, 3) for value in (min(measured), float(np.median(measured))))
            row = {"part": part, "variant": name, "batch": batch, "ms_per_row_best": best, "ms_per_row_median": median}
            print(row, flush=True)
            rows.append(row)
    return rows


def _spec(name: str, dtype: str, *dimensions: int) -> TensorSpec:
    return TensorSpec.model_validate({"name": name, "dtype": dtype, "shape": (BATCH, *dimensions)})


def _onnx(module: Any) -> bytes:
    return to_onnx(module.eval())


def _session(content: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _feeds(session: ort.InferenceSession, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    feeds = {}
    for tensor in session.get_inputs():
        shape: Sequence[int] = [batch, *tensor.shape[1:]]
        if tensor.type == "tensor(float)":
            feeds[tensor.name] = random.random(shape, dtype=np.float32)
        elif tensor.type == "tensor(uint8)":
            feeds[tensor.name] = random.integers(0, 256, shape, dtype=np.uint8)
        else:
            feeds[tensor.name] = random.integers(0, STEPS, shape)
    return feeds


if __name__ == "__main__":
    main()

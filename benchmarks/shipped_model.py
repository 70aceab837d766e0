"""Evaluates the shipped bundle on labelled clips at every operating point, for README's table.

Uses the decoder, the runner and the exit rule of the service, without HTTP. The clips are those of a split that was not
used for training, selection and calibration.

    python -m benchmarks.shipped_model --data ../shared/datasets/tank_state [--split val] [--bundle bundles/sky]
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from adafocus.bundle.exit_rule import should_exit
from adafocus.bundle.manifest import Manifest
from adafocus.bundle.store import load_bundle
from adafocus.service.cpu import usable_cores
from adafocus.service.engine.runners.base import Runner
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from adafocus.training.data.clips import Clip
from adafocus.training.data.manifests import list_clips
from adafocus.training.evaluate.metrics import confusion, f1_per_class, macro_f1
from adafocus.video.decoder import FrameStream
from adafocus.video.probe import open_video
from adafocus.video.sampler import wanted_frames
from adafocus.video.transform import Geometry
from benchmarks.machine import write_results

ROOT = Path(__file__).resolve().parent.parent
BATCH = 16
GIGA = 1e9


@dataclass(frozen=True)
class Answers:
    """Step logits [N, T, C] and labels [N] of the clips, and the number of frames decoded from each [N]."""

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]


def main() -> None:
    """Measure, print a Markdown table, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with a manifest.json, or class folders")
    parser.add_argument("--split", default="val")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    parser.add_argument("--backend", default="onnxruntime-cpu")
    options = parser.parse_args()
    bundle = load_bundle(options.bundle)
    manifest = bundle.manifest
    data = list_clips(options.data, options.split)
    if data.labels != manifest.labels:
        raise SystemExit(f"the clips must have the bundle's classes {manifest.labels}, got {data.labels}")
    runner = open_runner(bundle, RunnerOptions(usable_cores(), (BATCH,), backend=options.backend))
    answers = answer_all(data.clips, manifest, runner)
    rows = [row(manifest, point.name, answers) for point in manifest.operating_points]
    print(markdown(rows))
    print(write_results("shipped_model", options.backend, rows))


def decode(clip: Clip, manifest: Manifest) -> list[npt.NDArray[np.uint8]]:
    """The frames of a clip that the service would see, in visiting order; fewer if some cannot be decoded."""
    sampling, geometry = (
        manifest.sampling,
        Geometry(**dict(manifest.geometry)),
    )
    with clip.path.open("rb") as file, open_video(file) as video:
        wanted = wanted_frames(
            video.info.frames or 1,
            frames=sampling.frames,
            order=sampling.order,
            first_frame=sampling.first_frame,
            key_frames=video.index.key_frames if sampling.snap == "keyframe" else (),
        )
        stream = FrameStream(video, wanted, geometry)
        frames = []
        while (frame := stream.next()) is not None:
            frames.append(frame.pixels)
        stream.close()
    return frames


def answer_all(clips: tuple[Clip, ...], manifest: Manifest, runner: Runner) -> Answers:
    """Run every step of every clip."""
    logits = []
    counts = []
    for start in range(0, len(clips), BATCH):
        decoded = [decode(clip, manifest) for clip in clips[start : start + BATCH]]
        counts.extend(len(frames) for frames in decoded)
        padded = [frames + [frames[-1]] * (manifest.steps - len(frames)) for frames in decoded]
        logits.append(all_steps(np.stack([np.stack(frames) for frames in padded]), runner))
    labels = np.array([clip.label for clip in clips], dtype=np.int64)
    return Answers(np.concatenate(logits), labels, np.array(counts, dtype=np.int64))


def all_steps(frames: npt.NDArray[np.uint8], runner: Runner) -> npt.NDArray[np.float32]:
    """Frames [B, T, H, W, 3] in visiting order -> logits after each step [B, T, C]."""
    rows, steps = frames.shape[:2]
    policy = np.zeros((rows, runner.widths.policy), dtype=np.float32)
    pooled = np.zeros((rows, runner.widths.pooled), dtype=np.float32)
    logits = []
    for step in range(steps):
        seen = np.ascontiguousarray(frames[:, step])
        glance = runner.glance(seen, policy)
        focus = runner.focus(seen, glance.patch_centre, glance.feature, pooled, np.full(rows, step, dtype=np.int64))
        policy, pooled = glance.policy_state, focus.pooled_state
        logits.append(focus.logits)
    return np.stack(logits, axis=1)


def row(manifest: Manifest, point: str, answers: Answers) -> dict[str, object]:
    """An operating point: accuracy, macro-F1 and per-class F1, mean GFLOPs per video and their share of full."""
    sure = manifest.exit_rule.of_all_steps(answers.logits)
    out = should_exit(sure, np.array(manifest.threshold_row(point))[None, :])
    left = np.minimum(np.argmax(out, axis=1), answers.frames - 1)
    predicted = answers.logits[np.arange(len(left)), left].argmax(axis=1)
    clips, classes = len(left), len(manifest.labels)
    gflops = float((left + 1).mean()) * manifest.flops.per_step / GIGA
    scores = f1_per_class(confusion(predicted, answers.labels, classes))
    return {
        "bundle": f"{manifest.name} {manifest.version}",
        "point": point,
        "clips": clips,
        "right": int((predicted == answers.labels).sum()),
        "accuracy": round(float((predicted == answers.labels).mean()), 4),
        "macro_f1": round(macro_f1(predicted, answers.labels, classes), 4),
        "gflops_mean": round(gflops, 5),
        "share_of_full": round(gflops / (manifest.flops_full / GIGA), 4),
        "steps_mean": round(float((left + 1).mean()), 2),
        **{f"f1_{name}": round(float(score), 4) for name, score in zip(manifest.labels, scores, strict=True)},
    }


def markdown(rows: list[dict[str, object]]) -> str:
    """The table as README shows it."""
    lines = ["| exit | right | accuracy | macro-F1 | mean GFLOPs | of full |", "|---|---|---|---|---|---|"]
    lines.extend(
        f"| `{row['point']}` | {row['right']} of {row['clips']} | {row['accuracy']:.3f} | {row['macro_f1']:.3f} "
        f"| {row['gflops_mean']:.4f} | {row['share_of_full']:.0%} |"
        for row in rows
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()

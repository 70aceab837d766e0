"""Compares each backend and precision of a bundle on labelled clips with fp32 in ONNX Runtime.

Uses the decoder, the runners and the exit rule of the service, and the thresholds that were solved for each precision.

    python -m benchmarks.precisions --data ../shared/datasets/tank_state --checkpoint runs/x/last.pt --calibration FILE

exports the checkpoint in every format and precision first, int8 with its ranges and thresholds from the training split,
and then measures on the validation split. ``--bundle DIR`` measures the graphs of an existing bundle. On a machine with
a GPU, ``--reduced fp16`` exports graphs for it, and the results are written as ``precisions-cuda``.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from adafocus.bundle.store import Bundle, load_bundle
from adafocus.service.cpu import usable_cores
from adafocus.service.engine.runners.base import RunnerError
from adafocus.service.engine.runners.selection import RunnerOptions, open_runner
from adafocus.training.data.clips import Clip
from adafocus.training.data.manifests import list_clips
from benchmarks.backends import GPU_VARIANTS, VARIANTS
from benchmarks.machine import graphics, write_results
from benchmarks.shipped_model import BATCH, ROOT, Answers, answer_all, row


def main() -> None:
    """Measure, print a Markdown table, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with a manifest.json, or class folders")
    parser.add_argument("--split", default="val")
    parser.add_argument("--bundle", type=Path, default=ROOT / "bundles" / "sky")
    parser.add_argument("--checkpoint", type=Path, help="to export, in place of a bundle")
    parser.add_argument("--calibration", type=Path, help="of the checkpoint, from `adafocus calibrate`")
    parser.add_argument(
        "--reduced", choices=("int8", "fp16"), default="int8", help="precision to export in addition to fp32"
    )
    options = parser.parse_args()
    with ExitStack() as held:
        folder = options.bundle
        if options.checkpoint is not None:
            folder = Path(held.enter_context(tempfile.TemporaryDirectory())) / options.checkpoint.parent.name
            export(options.checkpoint, options.calibration, options.data, folder, options.reduced)
        rows = measure(load_bundle(folder), list_clips(options.data, options.split).clips)
    print(markdown(rows))
    cuda = any(row["backend"] == "onnxruntime-cuda" for row in rows)
    print(write_results("precisions-cuda" if cuda else "precisions", str(rows[0]["name"]), rows, graphics()))


def export(checkpoint: Path, calibration: Path | None, data: Path, folder: Path, reduced: str) -> None:
    """Export a bundle of every format, in fp32 and another precision; int8 is calibrated on the training split."""
    program = Path(sys.executable).with_name("adafocus")
    what = ["--checkpoint", checkpoint, "--data", data, "--out", folder]
    what += ["--calibration", calibration] if calibration is not None else []
    kinds = ["--format", "onnx,torchscript", "--precision", f"fp32,{reduced}"]
    subprocess.run([program, "export", *what, *kinds], check=True)


def measure(bundle: Bundle, clips: tuple[Clip, ...]) -> list[dict[str, object]]:
    """A row for each backend, precision and operating point that can be run here."""
    rows: list[dict[str, object]] = []
    exact: Answers | None = None
    variants = dict.fromkeys((("onnxruntime-cpu", "fp32"), *VARIANTS, *GPU_VARIANTS))
    for backend, precision in variants:
        try:
            runner = open_runner(bundle, RunnerOptions(usable_cores(), (BATCH,), backend, precision))
        except RunnerError:
            continue  # not in this bundle, or not on this machine
        answers = answer_all(clips, bundle.manifest, runner)
        runner.close()
        exact = exact or answers
        agree = float((answers.logits[:, -1].argmax(axis=1) == exact.logits[:, -1].argmax(axis=1)).mean())
        error = float(np.sqrt(np.mean(np.square(answers.logits - exact.logits))))
        served = bundle.manifest.served_in(precision)
        compared = {"agreement_full": round(agree, 4), "logits_rms_error": round(error, 6)}
        rows.extend(
            {"name": served.name, "backend": backend, "precision": precision, **compared, **row(served, point, answers)}
            for point in (point.name for point in served.operating_points)
        )
    return rows


def markdown(rows: list[dict[str, object]]) -> str:
    """The table as docs/backends.md shows it."""
    columns = ("backend", "precision", "point", "right", "macro_f1", "agreement_full", "logits_rms_error", "steps_mean")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(str(line[column]) for column in columns) + " |" for line in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()

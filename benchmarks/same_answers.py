"""Compares the answers of this checkout with those of another one, clip by clip, for every backend that is installed.

The clips are the samples, the clips that the tests make (`tests.media`), and, where the folder is there, those beside
the project. Both checkouts run ``adafocus classify --json --trace`` with the same bundle. Answers are the same if all
that says what was answered is equal to the last bit: predictions and their scores, exit, FLOPs, frames used, and for
each step the frame, the patch, the label and the confidence. Times, ids and the number of decoded frames are not
compared: they are allowed to change. A clip that neither answers counts as the same; the wording of errors may differ.

    python -m benchmarks.same_answers --before DIR [--bundle DIR ...] [--exits balanced full] [--clips FOLDER ...]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from adafocus.bundle.store import load_bundle
from benchmarks.machine import Row, with_earlier, write_results
from benchmarks.service_process import ROOT
from tests.media.named import NAMES, named

BACKENDS = ("onnxruntime-cpu", "openvino", "torchscript")
FORMATS = {"torchscript": "torchscript"}
ENVIRONMENTS = {"torchscript": {"ADAFOCUS_MAX_BATCH": "1"}}
"""Of each backend. Torch multiplies matrices in another order when there are more rows, and which videos share a batch
depends on time."""
BESIDE = ROOT.parent / "shared" / "videos"
COMPARED = ("predictions", "exit", "trace")
COSTS = ("gflops", "gflops_full", "glance_gflops", "focus_gflops", "frames_used")

Answer = dict[str, object]


def command(checkout: Path) -> list[str]:
    """The program of a checkout, with this interpreter and its packages; older ones have no prefix."""
    main = "adafocus.cli.main" if (checkout / "adafocus").exists() else "cli.main"
    start = f"import sys; sys.path.insert(0, {str(checkout.resolve())!r}); from {main} import main; main()"
    return [sys.executable, "-P", "-c", start]


def answers(checkout: Path, bundle: Path, backend: str, point: str, folders: Sequence[Path]) -> dict[str, Answer]:
    """What a checkout answers, by file; files that it refuses are not there.

    Raises:
        RuntimeError: it answers nothing at all.
    """
    options = ["--bundle", str(bundle), "--backend", backend, "--exit", point, "--json", "--trace"]
    words = [*command(checkout), "classify", *map(str, folders), *options]
    environment = os.environ | ENVIRONMENTS.get(backend, {})
    ran = subprocess.run(words, capture_output=True, text=True, check=False, cwd=checkout, env=environment)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    found = {str(line["file"]): line for line in lines if "predictions" in line}
    if not found:
        raise RuntimeError(f"{checkout} answers nothing: {ran.stderr.strip()[-500:]}")
    return found


def essence(answer: Answer) -> Answer:
    """What says what was answered, and what that cost the model."""
    compute = answer["compute"]
    if not isinstance(compute, dict):
        raise TypeError("an answer has its costs under compute")
    return {name: answer[name] for name in COMPARED} | {"compute": {name: compute[name] for name in COSTS}}


def differences(before: object, after: object) -> Iterator[float]:
    """How far two values are apart, for each number in them; infinity where they differ in kind.

    Of objects, the members that both have are compared: later versions say more.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before.keys() & after.keys():
            yield from differences(before[name], after[name])
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for one, other in zip(before, after, strict=True):
            yield from differences(one, other)
    elif isinstance(before, int | float) and isinstance(after, int | float):
        yield abs(before - after)
    else:
        yield 0.0 if before == after else float("inf")


def compare(before: dict[str, Answer], after: dict[str, Answer]) -> Row:
    """Count the clips and the answers, and find the largest difference of those that take as many steps."""
    clips = before.keys() | after.keys()
    apart = {
        clip: max(differences(essence(before[clip]), essence(after[clip])), default=0.0)
        for clip in before.keys() & after.keys()
    }
    finite = [distance for distance in apart.values() if distance != float("inf")]
    return {
        "answered_before": len(before),
        "answered_after": len(after),
        "identical": sum(distance == 0.0 for distance in apart.values()),
        "other_answer": sum(distance == float("inf") for distance in apart.values()) + len(clips) - len(apart),
        "largest_difference": max(finite, default=0.0),
    }


def main() -> None:
    """Compare, print, and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="another checkout; name its folder as its commit")
    parser.add_argument("--bundle", type=Path, nargs="+", default=[ROOT / "bundles" / "sky"], help="that both can read")
    parser.add_argument("--backends", nargs="+", default=list(BACKENDS))
    parser.add_argument("--exits", nargs="+", default=["balanced", "full"], help="operating points")
    parser.add_argument("--clips", type=Path, nargs="*", default=[ROOT / "samples", BESIDE], help="folders")
    options = parser.parse_args()
    commit = options.before.resolve().name
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as made:
        for name in NAMES:
            (Path(made) / name).write_bytes(named(name))
        folders = [folder.resolve() for folder in (*options.clips, Path(made)) if folder.is_dir()]
        for bundle in (path.resolve() for path in options.bundle):
            manifest = load_bundle(bundle).manifest
            formats = {graph.format for graph in manifest.graphs}
            for backend in options.backends:
                if FORMATS.get(backend, "onnx") not in formats:
                    continue
                for point in options.exits:
                    asked = bundle, backend, point, folders
                    row = compare(answers(options.before, *asked), answers(ROOT, *asked))
                    rows.append({"before": commit, "bundle": manifest.name, "backend": backend, "exit": point, **row})
                    print(rows[-1], flush=True)
    rows = with_earlier("same-answers", rows, ("before", "bundle", "backend", "exit"))
    print(write_results("same-answers", "earlier-commits", rows))


if __name__ == "__main__":
    main()

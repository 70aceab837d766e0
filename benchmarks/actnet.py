"""Creates a bundle of actnet_mbv2_p128 with the parity fixtures' weights, in every format and the given precisions.

It is for measurements of speed. The weights are synthetic and int8's ranges come from the fixtures' videos, so its
accuracy means nothing.

    python -m benchmarks.actnet FOLDER [--precisions int8 fp16]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from adafocus.bundle.manifest import Precision
from adafocus.bundle.store import write_bundle
from adafocus.export.accuracy_tradeoff import Bound
from adafocus.export.calibration_set import CalibrationSet
from adafocus.export.describe import graph_entry
from adafocus.export.exporter import Request, export, load_and_describe
from adafocus.export.graphs import graphs_in
from adafocus.export.precision import QuantizationContext, reduce
from tests.fixtures.authors import weights
from tests.parity import authors

ANY_LOSS = Bound(agreement=0, accuracy_lost=1)
CONFIG = "actnet_mbv2_p128"


def main() -> None:
    """Write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--precisions", nargs="+", choices=("int8", "fp16"), default=["int8"], help="Precisions in addition to fp32."
    )
    options = parser.parse_args()
    write(options.folder, options.precisions)


def write(folder: Path, precisions: Sequence[Precision]) -> None:
    """Export, reduce, write."""
    with tempfile.TemporaryDirectory() as scratch:
        request = Request(_checkpoint(Path(scratch)), CONFIG, config=CONFIG, formats=("onnx", "torchscript"))
        made = export(request)
        model, manifest, _ = load_and_describe(request)
    videos = tuple(weights.make_video(index, manifest.steps) for index in range(4))
    material = CalibrationSet("the fixtures' videos", videos[:2], videos[2:], np.zeros(2, np.int64))
    fp32 = made.files["glance.onnx"], made.files["focus.onnx"]
    context = QuantizationContext(model, manifest, fp32, material, torch.get_num_threads())
    contents, graphs, traded = dict(made.files), list(made.manifest.graphs), []
    for precision in precisions:
        files, lost = reduce(context, precision, ANY_LOSS)
        for graph, content in zip(graphs_in(model, precision), files, strict=True):
            graphs.append(graph_entry(graph, "onnx", precision, content))
            contents[graphs[-1].file] = content
        traded.append(lost)
    changed = {"graphs": tuple(graphs), "reduced": tuple(traded)}
    write_bundle(folder, made.manifest.model_copy(update=changed), contents)


def _checkpoint(folder: Path) -> Path:
    """A file as the authors release theirs."""
    spec = json.loads((authors.FOLDER / "state_dict_spec_act_mbv2_p128.json").read_text())
    state = weights.make_state(spec["entries"], keep_module=True)
    path = folder / "ckpt.pth.tar"
    torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in state.items()}}, path)
    return path


if __name__ == "__main__":
    main()

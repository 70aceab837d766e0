"""A bundle of actnet_mbv2_p128 with the weights of the parity fixtures, in every format and precision.

For measurements of speed. The weights are a recipe's: int8's ranges come from the fixtures' own videos, and what it
loses on them says nothing.

    python -m benchmarks.actnet FOLDER
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch

from bundle.store import write_bundle
from export.clips import Material
from export.compose import Request, export, load_and_describe
from export.describe import graph_entry
from export.graphs import served_graphs
from export.precision import Workshop, reduce
from export.trade import Bound
from tests.fixtures.authors import weights
from tests.parity import authors

ANY_LOSS = Bound(agreement=0, accuracy_lost=1)
CONFIG = "actnet_mbv2_p128"


def main() -> None:
    """Write the bundle."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)


def write(folder: Path) -> None:
    """Export, quantise, write."""
    with tempfile.TemporaryDirectory() as scratch:
        request = Request(_checkpoint(Path(scratch)), CONFIG, config=CONFIG, formats=("onnx", "torchscript"))
        made = export(request)
        model, manifest, _ = load_and_describe(request)
    videos = tuple(weights.make_video(index, manifest.steps) for index in range(4))
    material = Material("the fixtures' videos", videos[:2], videos[2:], np.zeros(2, np.int64))
    fp32 = made.files["glance.onnx"], made.files["focus.onnx"]
    files, traded = reduce(Workshop(model, manifest, fp32, material, torch.get_num_threads()), "int8", ANY_LOSS)
    entries = [
        graph_entry(graph, "onnx", "int8", content) for graph, content in zip(served_graphs(model), files, strict=True)
    ]
    contents = made.files | {entry.file: content for entry, content in zip(entries, files, strict=True)}
    graphs = (*made.manifest.graphs, *entries)
    write_bundle(folder, made.manifest.model_copy(update={"graphs": graphs, "reduced": (traded,)}), contents)


def _checkpoint(folder: Path) -> Path:
    """A file as the authors release theirs."""
    spec = json.loads((authors.FOLDER / "state_dict_spec_act_mbv2_p128.json").read_text())
    state = weights.make_state(spec["entries"], keep_module=True)
    path = folder / "ckpt.pth.tar"
    torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in state.items()}}, path)
    return path


if __name__ == "__main__":
    main()

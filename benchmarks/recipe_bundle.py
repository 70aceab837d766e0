"""A bundle of the paper's full-size model with recipe weights: what a speed needs, as it does not ask for accuracy.

Makes the authors' checkpoint from the parity fixtures' recipe and exports it the way a user's would be.
Run ``python -m benchmarks.recipe_bundle FOLDER``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from tests.fixtures.authors import weights

SPECS = Path(weights.__file__).parent


def main() -> None:
    """Make it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--formats", default="onnx")
    options = parser.parse_args()
    spec = json.loads((SPECS / "state_dict_spec_act_mbv2_p128.json").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "recipe.pth.tar"
        state = weights.make_state(spec["entries"], keep_module=True)
        torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in state.items()}}, path)
        adafocus = Path(sys.executable).with_name("adafocus")
        command = ["export", "--checkpoint", path, "--config", "actnet_mbv2_p128", "--format", options.formats]
        subprocess.run([adafocus, *command, "--out", options.folder], check=True)


if __name__ == "__main__":
    main()

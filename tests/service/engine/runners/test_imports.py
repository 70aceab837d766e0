"""Runtimes are loaded by name, when they are asked for."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

from adafocus.service.engine.runners.selection import BACKENDS

RUNTIMES = ("onnxruntime", "openvino", "torch")
PART_OF_ONNX = "adafocus.service.engine.runners.onnx_device"


def test_nothing_imports_a_runtime_statically() -> None:
    graph = grimp.build_graph("adafocus", include_external_packages=True, cache_dir=None)
    opened = {backend.opens[0] for backend in BACKENDS.values()}
    for module in opened:
        assert graph.find_modules_that_directly_import(module) == set()
    own = opened | {PART_OF_ONNX}
    served = graph.find_descendants("adafocus.service")
    assert graph.find_modules_that_directly_import(PART_OF_ONNX) == {"adafocus.service.engine.runners.onnx"}
    for runtime in RUNTIMES:
        if runtime in graph.modules:
            assert graph.find_modules_that_directly_import(runtime) & served <= own
    assert graph.find_modules_that_directly_import("torch") & served == {"adafocus.service.engine.runners.torchscript"}


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_is_where_it_is_said_to_be(name: str) -> None:
    module, function = BACKENDS[name].opens
    assert callable(getattr(importlib.import_module(module), function))


def test_choosing_a_backend_loads_no_other(project_root: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from adafocus.bundle.store import load_bundle\n"
        "from adafocus.service.engine.runners.selection import RunnerOptions, open_runner\n"
        "open_runner(load_bundle(Path('bundles/sky')), RunnerOptions(1, (1,), backend='onnxruntime-cpu'))\n"
        f"print(*[name for name in {RUNTIMES!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=project_root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["onnxruntime"]

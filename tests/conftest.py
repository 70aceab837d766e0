"""Fixtures that all tests share: the paths of optional material, and what is made once in a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.once import Once

# No test asserts a time, so no example of a property test has a deadline: the machine may have other work to do.
settings.register_profile("adafocus", parent=settings(), deadline=None)
settings.load_profile("adafocus")

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"

SLOW = (
    "benchmarks",
    "cli/offline/test_on_ray.py",
    "cli/test_batch.py",
    "cli/test_export.py",
    "docs",
    "e2e",
    "export",
    "model/test_flops.py",
    "parity",
    "service/decode",
    "service/engine/runners",
    "service/live/test_long_run.py",
    "training",
    "video/test_disposable.py",
    "video/test_faults.py",
    "video/test_fuzz.py",
)
"""Folders and files that `make quick` leaves out: they export, train, or decode hundreds of clips."""

LONGEST = (
    "parity/test_onnx_parity.py",
    "parity/test_frame_model.py",
    "parity/test_training_step.py",
    "export/test_precision.py",
    "export/test_backbones.py",
    "parity/test_clip_model.py",
    "training/optimise/test_parallel.py",
    "export/test_quantize.py",
    "cli/test_export.py",
    "training/evaluate/test_certify.py",
    "model/test_adafocus.py",
    "service/decode/test_growing_upload.py",
    "training/test_commands.py",
    "training/test_kill.py",
)
"""Files that run before all others, the longest first. A file stays in one process: if one of these began last, the
other processes would wait for it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow, and begin with what takes longest."""
    folder = ROOT / "tests"
    slow = [folder / name for name in SLOW]
    for item in items:
        if any(item.path.is_relative_to(path) for path in slow):
            item.add_marker("slow")
    places = {folder / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Optional material beside the project that a clone may lack; a test that needs it is skipped by name."""
    if not SHARED.is_dir():
        pytest.skip("needs the folder ../shared, which this clone does not have")
    return SHARED


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """What the worker processes of this run share."""
    base = tmp_path_factory.getbasetemp()
    return Once((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once")


@pytest.fixture(scope="session")
def exports_once(once: Once) -> Iterator[Once]:
    """Exporting a graph again takes no time. That it gives the same bytes is held by `tests/export/test_to_onnx.py`."""
    from adafocus.export import exporter, precision

    with pytest.MonkeyPatch.context() as patch:
        for module in (exporter, precision):
            patch.setattr(module, "to_onnx", once.to_onnx)
        yield once


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The checkout."""
    return ROOT

"""The notebooks run from their first cell to their last, in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells_of(notebook: Path, kind: str) -> list[dict[str, Any]]:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    return [cell for cell in content["cells"] if cell["cell_type"] == kind]


def test_there_is_one() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["quickstart"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: str(path.stem))
def test_it_holds_no_outputs_and_its_links_lead_somewhere(notebook: Path) -> None:
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells_of(notebook, "code"))
    text = "".join("".join(cell["source"]) for cell in cells_of(notebook, "markdown"))
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (notebook.parent / target).is_file(), target


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: str(path.stem))
def test_it_runs(notebook: Path, tmp_path: Path) -> None:
    """Its code is plain Python, so that no kernel is needed."""
    script = "\n\n".join("".join(cell["source"]) for cell in cells_of(notebook, "code"))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    assert "['blue', 'red']" in done.stdout
    assert "20 videos took" in done.stdout
    assert done.stdout.endswith("stopped with exit code 0\n")

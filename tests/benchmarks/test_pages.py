"""The tables of README and the docs, and README's example answer, agree with the newest results."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("module", ["benchmarks.readme", "benchmarks.backend_pages"])
def test_a_page_is_what_the_results_say(module: str, project_root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--check"], cwd=project_root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr

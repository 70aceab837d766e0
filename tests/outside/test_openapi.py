"""Whatever the description permits or forbids, the service does what it says: schemathesis, every check."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import SAMPLES, service

HERE = Path(__file__).resolve().parent


def run(url: str, folder: Path, *arguments: str) -> str:
    tool = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            *(str(tool), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{url}/openapi.json"),
            *("--checks", "all", "--max-examples", "30", "--continue-on-failure", *arguments),
        ],
        cwd=folder,
        env={
            **os.environ,
            "ADAFOCUS_SAMPLES": str(SAMPLES),
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(HERE),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=170,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("seed", ["1", "2"])
def test_nothing_is_found(url: str, tmp_path: Path, seed: str) -> None:
    assert "No issues found" in run(url, tmp_path, "--seed", seed)


def test_nothing_is_found_behind_a_key(tmp_path: Path) -> None:
    with service(ADAFOCUS_API_KEYS="sesame", ADAFOCUS_METRICS_NEED_KEY="true") as url:
        assert "No issues found" in run(url, tmp_path, "--seed", "3", "--header", "X-API-Key: sesame")

"""The service behaves as its API description says: schemathesis with every check."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import service
from .visit import SAMPLES

HERE = Path(__file__).resolve().parent

WITHOUT_WARNINGS = "warnings = false\n"  # that most of the URLs that it generates are refused

# A deadline of 1 ms passes before the first step: that 504 is the answer that the API promises.
CONFIGURATION = """
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "504"]
"""
# A description cannot say that URLs are off by default, nor that parameters of windows need `window_s`: both are 400.
CONDITIONS = """
[[operations]]
include-path = "/classify"

[operations.checks.positive_data_acceptance]
expected-statuses = ["2xx", "3xx", "400", "401", "403", "404", "409", "429", "5xx"]
"""
KEY = """
[auth.openapi.header]
api_key = "sesame"
"""


def run(url: str, folder: Path, seed: int, configuration: str = CONFIGURATION) -> str:
    config = folder / "schemathesis.toml"
    config.write_text(WITHOUT_WARNINGS + configuration + CONDITIONS)
    tool = Path(sys.executable).with_name("schemathesis")
    done = subprocess.run(
        [
            *(str(tool), "--config-file", str(config), "run", f"{url}/openapi.json"),
            *("--checks", "all", "--max-examples", "30", "--continue-on-failure", "--seed", str(seed)),
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


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_found(url: str, tmp_path: Path, seed: int) -> None:
    assert "No issues found" in run(url, tmp_path, seed)


def test_nothing_is_found_behind_a_key(tmp_path: Path) -> None:
    with service(ADAFOCUS_API_KEYS="sesame", ADAFOCUS_METRICS_NEED_KEY="true") as url:
        assert "No issues found" in run(url, tmp_path, 3, CONFIGURATION + KEY)

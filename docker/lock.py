"""Writes the lists of packages with hashes that the images install, one for each extra, with uv.

usage: python docker/lock.py   (needs uv: pip install uv)

Versions are those of constraints.txt, and for CUDA of docker/constraints-gpu.txt. The lists hold for every platform;
an image merges those that it needs with docker/requirements.py. Run it after a version or a dependency has changed.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from requirements import BASE, BUILD, LOCKED, entries

ROOT = Path(__file__).resolve().parent.parent
PYTHON = "3.11"
EXTRAS = ("serve", "gpu", "otel", "cloud", "signed", "openvino", "draw", "parquet", "train", "pretrained", "export")
BUILD_REQUIREMENTS = "setuptools>=77\n"
"""As the table build-system of pyproject.toml has it."""


def compile_list(extra: str, source: Path, out: Path) -> str:
    """The locked list of one extra with the base, of the base alone, or of a file of requirements.

    Raises:
        subprocess.CalledProcessError: uv found no solution.
    """
    constraints = ["-c", "constraints.txt", *(["-c", "docker/constraints-gpu.txt"] if extra == "gpu" else [])]
    chosen = ["--extra", extra] if extra in EXTRAS else []
    style = ["--generate-hashes", "--universal", "--python-version", PYTHON, "--no-annotate", "--no-header", "--quiet"]
    subprocess.run(
        ["uv", "pip", "compile", *style, *chosen, *constraints, str(source), "-o", str(out)], cwd=ROOT, check=True
    )
    return out.read_text(encoding="utf-8")


def main() -> int:
    """Write every list; the exit code is that of the first command that fails."""
    with tempfile.TemporaryDirectory() as folder:
        build, out = Path(folder) / "build.in", Path(folder) / "out.txt"
        build.write_text(BUILD_REQUIREMENTS, encoding="utf-8")
        lists = {}
        try:
            for name in (BASE, *EXTRAS, BUILD):
                lists[name] = compile_list(name, build if name == BUILD else ROOT / "pyproject.toml", out)
                out.unlink()  # or uv would keep the versions that it holds
        except subprocess.CalledProcessError as error:
            return error.returncode
    common = entries(lists[BASE])
    for name, text in lists.items():
        kept = (
            text
            if name == BASE
            else "".join(entry for package, entry in entries(text).items() if common.get(package) != entry)
        )
        (LOCKED / f"{name}.txt").write_text(kept, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

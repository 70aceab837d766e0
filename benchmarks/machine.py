"""The machine and the date of every result."""

from __future__ import annotations

import csv
import datetime
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from adafocus.service.cpu import usable_cores

RESULTS = Path(__file__).resolve().parent / "results"

Row = Mapping[str, object]


def processor() -> str:
    """The processor's name, as it reports it."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else "unknown"


def graphics() -> str:
    """The first NVIDIA GPU's name, as its driver reports it; empty if there is none."""
    return next(iter(_asked_of_gpu("--query-gpu=name")), "")


def graphics_megabytes(pid: int) -> float:
    """Device memory that a process holds, in MB; NaN if the driver does not report it."""
    for line in _asked_of_gpu("--query-compute-apps=pid,used_memory"):
        owner, _, mebibytes = line.partition(", ")
        if owner == str(pid) and mebibytes.isdigit():
            return int(mebibytes) * 1024**2 / 1e6
    return float("nan")


def _asked_of_gpu(query: str) -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    result = subprocess.run([program, query, "--format=csv,noheader,nounits"], capture_output=True, text=True)
    return result.stdout.splitlines() if result.returncode == 0 else []


def machine_name(device: str = "") -> str:
    """Processor model, or that device, and usable cores, as one word: ``amd-epyc-2c``, ``nvidia-l4-8c``."""
    words = re.sub(r"\(.*?\)|CPU|Processor|@.*", " ", device or processor())
    return "-".join([*re.findall(r"[A-Za-z0-9]+", words.lower()), f"{usable_cores()}c"])


def write_results(benchmark: str, variant: str, rows: Sequence[Row], device: str = "") -> Path:
    """Write ``<benchmark>_<machine>_<variant>_<date>.csv`` and return its path; the first row names the columns.

    Args:
        benchmark: its module's name.
        variant: of the benchmark, as a bundle's name.
        rows: with the same columns.
        device: name of the device that did the work, if not the processor.
    """
    RESULTS.mkdir(exist_ok=True)
    day = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    path = RESULTS / f"{benchmark}_{machine_name(device)}_{variant}_{day}.csv"
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def newest_results(benchmark: str, variant: str = "*") -> list[dict[str, str]]:
    """The rows of the newest CSV of a benchmark, or of one variant of it.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = _by_day(benchmark, variant)
    if not paths:
        raise FileNotFoundError(f"no results of {benchmark}; run python -m benchmarks.{benchmark}")
    return _rows(paths[-1])


def with_earlier(benchmark: str, rows: Sequence[Row], keys: Sequence[str]) -> list[Row]:
    """The rows of the newest CSV, if there is one, with other keys than the given rows; then the given rows."""

    def key(row: Row) -> list[str]:
        return [str(row.get(name)) for name in keys]

    made = [key(row) for row in rows]
    earlier = newest_results(benchmark) if _by_day(benchmark, "*") else []
    return [*(row for row in earlier if key(row) not in made), *rows]


def newest_of_each_machine(benchmark: str) -> list[dict[str, str]]:
    """The rows of the newest CSV of a benchmark that each machine has."""
    newest = {path.stem.split("_")[1]: path for path in _by_day(benchmark, "*")}
    return [row for machine in sorted(newest) for row in _rows(newest[machine])]


def _by_day(benchmark: str, variant: str) -> list[Path]:
    """The oldest first; those of one day by name, so that every file system gives the same order."""
    found = RESULTS.glob(f"{benchmark}_*_{variant}_*.csv")
    return sorted(found, key=lambda path: (path.stem.rsplit("_", 1)[-1], path.name))


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
